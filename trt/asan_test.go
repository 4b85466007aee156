//go:build asan && tensorrt && cgo && linux

package trt

// AddressSanitizer keeps freed memory, so that memory says nothing of leaks; it
// finds those itself.
const sanitized = true
