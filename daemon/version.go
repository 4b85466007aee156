package main

import (
	"fmt"
	"io"
	"runtime"

	"gladd/daemon/internal/app"
)

// version is set by the build, from the repository's tags.
var version = "development"

// versionCommand is 'gladd version'.
type versionCommand struct {
	OnnxruntimeLibrary string `name:"onnxruntime-library" help:"ONNX Runtime's shared library, if not the one beside gladd." env:"GLADD_ONNXRUNTIME_LIBRARY" placeholder:"FILE"`

	TensorRT tensorRTFlags `embed:""`
}

// Run prints the versions.
func (c *versionCommand) Run(env *environment) error {
	text := fmt.Sprintf("gladd         %s (%s, %s/%s)\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	options := app.EngineOptions{ONNXRuntimeLibrary: c.OnnxruntimeLibrary, TensorRT: c.TensorRT.options(env)}
	for _, library := range app.Libraries(options) {
		text += fmt.Sprintf("%-13s %s\n", library.Name, library.Found)
	}
	for _, backend := range app.Backends(options) {
		text += fmt.Sprintf("%-13s %-16s %s\n", "Backend", backend.Name, backend.Found)
	}
	_, err := io.WriteString(env.stdout, text)
	return err
}
