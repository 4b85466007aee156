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
	for _, library := range app.Libraries(app.EngineOptions{ONNXRuntimeLibrary: c.OnnxruntimeLibrary, TensorRT: c.TensorRT.options(env)}) {
		text += fmt.Sprintf("%-13s %s\n", library.Name, library.Found)
	}
	_, err := io.WriteString(env.stdout, text)
	return err
}
