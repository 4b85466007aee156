//go:build tensorrt8

package trttest

// V8_6 needs the system's headers, or folders with them in
// GLADD_TENSORRT8_HEADERS.
var V8_6 = Fake{"8.6.1", 8601, "8", 8, "libnvinfer.so.8", "libnvonnxparser.so.8"}

func init() { All = append(All, V8_6) }
