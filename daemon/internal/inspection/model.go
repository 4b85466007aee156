package inspection

import (
	"gladd/engines"
	"gladd/pipeline"
)

// Model is a bundle that is ready to inspect.
type Model struct {
	Bundle *engines.Bundle
	Method engines.Method
	// Calibration in use; nil: there is none for the method.
	Calibration *engines.Calibration
	Runtime     engines.Runtime
	Parameters  pipeline.Parameters
	Inspector   *Inspector
}
