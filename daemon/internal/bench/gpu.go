package bench

import (
	"context"

	"gladd/engines"
	"gladd/engines/tensorrt"
)

// GPU is what TensorRT's calls cost on the GPU, and its memory with the model
// loaded.
type GPU struct {
	Calls     []GPUCall `json:"calls"`
	FreeBytes uint64    `json:"free_bytes"`
	Bytes     uint64    `json:"bytes"`
}

// GPUCall is one call for one part, in milliseconds; the terms are those of
// [tensorrt.Overhead].
type GPUCall struct {
	Call  string  `json:"call"`
	Bare  float64 `json:"engines_ms"`
	Graph float64 `json:"cuda_graph_ms,omitempty"`
	Plain float64 `json:"one_by_one_ms"`
	Whole float64 `json:"whole_ms"`
}

// gpuRounds is how often each way of a call is measured.
const gpuRounds = 50

func gpu(ctx context.Context, networks engines.Networks) (*GPU, error) {
	on, isTensorRT := networks.(*tensorrt.Networks)
	if !isTensorRT {
		return nil, nil
	}
	calls, memory, err := on.Overheads(ctx, gpuRounds)
	if err != nil {
		return nil, err
	}
	found := &GPU{FreeBytes: memory.Free, Bytes: memory.Total}
	for _, each := range calls {
		found.Calls = append(found.Calls, GPUCall(each))
	}
	return found, nil
}
