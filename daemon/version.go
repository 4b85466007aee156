package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"gladd/daemon/internal/app"
)

// version is set by the build.
var version = "development"

// versionCommand is 'gladd version'.
type versionCommand struct {
	OnnxruntimeLibrary string `name:"onnxruntime-library" help:"ONNX Runtime's shared library, if not the one beside gladd." env:"GLADD_ONNXRUNTIME_LIBRARY" placeholder:"FILE"`
}

// Run prints the versions.
func (c *versionCommand) Run(env *environment) error {
	revision := "unknown"
	if info, found := debug.ReadBuildInfo(); found {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				revision = setting.Value
			}
		}
	}
	fmt.Fprintf(env.stdout, "gladd         %s (revision %s, %s, %s/%s)\n", version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, library := range app.Libraries(c.OnnxruntimeLibrary) {
		fmt.Fprintf(env.stdout, "%-13s %s\n", library.Name, library.Found)
	}
	return nil
}
