package engines

import "context"

// Backend runs the networks of bundles on one kind of runtime.
type Backend interface {
	// Open makes a bundle's networks ready to run. Graphs that break the
	// contract are refused with an error that names the file and the tensor.
	Open(ctx context.Context, bundle *Bundle) (Networks, error)

	// Close frees the runtime. The networks must be closed before.
	Close() error
}

// Networks are the networks of one bundle, ready to run. The calls are those
// that package pipeline declares and describes as its Models; they are safe
// for concurrent use.
type Networks interface {
	Encode(ctx context.Context, images, mean, std []float32) error
	PredictNoise(ctx context.Context, samples []float32, timesteps, classes []int, eps []float32) error
	Compare(ctx context.Context, latentsTest, latentsRecon, maps []float32) error
	Reconstruct(ctx context.Context, latents, images []float32) error
	Score(ctx context.Context, testImages, reconstructions, maps []float32) error

	// Runtime says what the networks run on.
	Runtime() Runtime

	// Close frees the networks. It may be called twice.
	Close() error
}

// Runtime describes what runs a bundle's networks.
type Runtime struct {
	Backend   string // the backend's name: onnxruntime, ...
	Precision string // fp32 | fp16
	Library   string // the library and its version, for people
}
