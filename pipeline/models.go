// Package pipeline computes GLAD: it reconstructs a part as it would look
// without a defect and compares the two.
//
// GLAD is described in Yao et al., "GLAD: Towards Better Reconstruction with
// Global and Local Adaptive Diffusion Models for Unsupervised Anomaly
// Detection", ECCV 2024. Where the paper and its official code
// (github.com/hyao1/GLAD) differ, the code decides: it gave the published
// figures.
//
// The package is pure Go. The networks are reached through [Models] only.
package pipeline

import "context"

// Models are the networks that GLAD needs, as five calls.
//
// Every tensor is float32, contiguous, with the batch N first; N is the length
// of a slice divided by the length of one sample. C, h, w are the latent's
// channels, height and width, H and W the picture's height and width, S the
// side of the anomaly map. Pictures are RGB in [-1,1], though reconstructions
// may leave that range. Latents are scaled (the VAE's scaling factor is inside
// the networks).
//
// The caller owns all slices; an implementation writes its results to the last
// ones and keeps none of them.
type Models interface {
	// Encode takes images [N,3,H,W] and fills mean [N,C,h,w] and, where the
	// model samples its posterior, std [N,C,h,w]; otherwise std is nil.
	Encode(ctx context.Context, images, mean, std []float32) error

	// PredictNoise takes samples [N,C,h,w], one timestep and, for a model of
	// several classes, one class index a sample (nil otherwise), and fills
	// eps [N,C,h,w].
	PredictNoise(ctx context.Context, samples []float32, timesteps, classes []int, eps []float32) error

	// Compare decodes both latents [N,C,h,w] and fills maps [N,1,h,w] with the
	// distance of their last DINO layers. The decoded pictures, which only the
	// implementation sees, must be checked: one that is not finite is an error
	// with a method NotFinite() (index int, value float32).
	Compare(ctx context.Context, latentsTest, latentsRecon, maps []float32) error

	// Reconstruct decodes latents [N,C,h,w] to images [N,3,H,W].
	Reconstruct(ctx context.Context, latents, images []float32) error

	// Score fills maps [N,1,S,S] with the distance of DINO layers 3, 6, 9 and
	// 12 of testImages and reconstructions, both [N,3,H,W].
	Score(ctx context.Context, testImages, reconstructions, maps []float32) error
}
