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
	Bars      Bars      `json:"bars"`
	FreeBytes uint64    `json:"free_bytes"`
	Bytes     uint64    `json:"bytes"`
}

// Bars are the most that a call may take, as shares of its engines and copies alone.
type Bars struct {
	Events   float64 `json:"events"`
	EndToEnd float64 `json:"end_to_end"`
}

// GPUCall is one call for one part, in milliseconds; the terms are those of
// [tensorrt.Overhead].
type GPUCall struct {
	Call     string  `json:"call"`
	Bare     float64 `json:"engines_ms"`
	Copies   float64 `json:"copies_ms"`
	Graph    float64 `json:"cuda_graph_ms,omitempty"`
	Plain    float64 `json:"one_by_one_ms"`
	Whole    float64 `json:"whole_ms"`
	Events   float64 `json:"events"`
	EndToEnd float64 `json:"end_to_end"`
	Passes   bool    `json:"passes"` // within both bars
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
	found := &GPU{FreeBytes: memory.Free, Bytes: memory.Total, Bars: Bars{tensorrt.BarEvents, tensorrt.BarWhole}}
	for _, each := range calls {
		found.Calls = append(found.Calls, GPUCall{
			Call: each.Call, Bare: each.Bare, Copies: each.Copies, Graph: each.Graph, Plain: each.Plain, Whole: each.Whole,
			Events: each.Events(), EndToEnd: each.EndToEnd(), Passes: each.Passes(),
		})
	}
	return found, nil
}
