package app

import (
	"log/slog"
	"testing"

	"gladd/engines"
	"gladd/engines/enginetest"
)

// Networks that several models share are freed with the last of them.
func TestRelease(t *testing.T) {
	opened, err := OpenEngines(EngineOptions{Backend: BackendONNXRuntime, ONNXRuntimeLibrary: enginetest.Library(t)}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	}()
	bundle := enginetest.Load(t, enginetest.TinyA(t))
	for range 2 {
		if _, err := opened.OpenModel(t.Context(), bundle, engines.ModeExact); err != nil {
			t.Fatal(err)
		}
	}
	shared := opened.Networks(bundle)
	opened.Release(bundle)
	if opened.Networks(bundle) != shared || shared == nil {
		t.Error("a model still uses them")
	}
	opened.Release(bundle)
	if opened.Networks(bundle) != nil {
		t.Error("nobody uses them any more")
	}
	opened.Release(bundle) // once too often does no harm
	if _, err := opened.OpenModel(t.Context(), bundle, "quick"); err == nil || opened.Networks(bundle) != nil {
		t.Errorf("found %v", err)
	}
	if _, err := opened.OpenModel(t.Context(), bundle, engines.ModeExact); err != nil || opened.Networks(bundle) == nil {
		t.Errorf("they are opened again: %v", err)
	}
}
