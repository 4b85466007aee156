//go:build tensorrt

package tensorrt

import (
	"log/slog"
	"os"
	"testing"

	"gladd/engines"
	"gladd/engines/enginetest"
	"gladd/trt"
)

// What gladd really gives to a builder, with its profiles, is built by the true
// TensorRT for RTX, which needs no GPU for that: see make test-tensorrt-rtx.
func TestRTXBuildsWhatGladdBuilds(t *testing.T) {
	path := os.Getenv("GLADD_TENSORRT_RTX_LIBRARY")
	if path == "" {
		t.Skip("GLADD_TENSORRT_RTX_LIBRARY names no library; scripts/test-tensorrt-rtx.sh sets it")
	}
	library, err := trt.Open(trt.Options{Library: path, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer library.Close() //nolint:errcheck // the test is about building
	for name, dir := range map[string]string{"tiny-a": enginetest.TinyA(t), "micro": enginetest.Micro(t), "demo": enginetest.Path(t, "bundles/demo"), "external weights": externalWeights(t)} {
		bundle := enginetest.Load(t, dir)
		for _, precision := range []string{FP16, FP32} {
			backend := &Backend{options: Options{Precision: precision}, library: library, cache: NewCache(t.TempDir()), log: slog.New(slog.DiscardHandler)}
			for _, network := range engines.GraphNames {
				t.Run(name+"/"+precision+"/"+string(network), func(t *testing.T) {
					graph, file, remove, err := backend.convert(bundle, network)
					if err != nil {
						t.Fatal(err)
					}
					defer remove()
					const sm86 = 86 // a GPU that TensorRT for RTX builds for
					plan, err := library.Build(t.Context(), trt.BuildOptions{Network: graph, Path: file, Profiles: profiles(bundle, network), ComputeCapability: sm86})
					if err != nil {
						t.Fatal(err)
					}
					if len(plan.Data) < 1000 {
						t.Errorf("found a plan of %d bytes", len(plan.Data))
					}
				})
			}
		}
	}
}
