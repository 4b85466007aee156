//go:build !asan && tensorrt && cgo && linux

package trt

const sanitized = false
