package trt

import "fmt"

// decodeVersion takes the number of getInferLibVersion apart. NvInferVersion.h
// and NvInferRuntimeBase.h make it: major*1000 + minor*100 + patch until 8.x, then
// major*10000 + minor*100 + patch, which TensorRT for RTX counts from 1.0.0.
func decodeVersion(number int) Version {
	switch {
	case number >= 100_000:
		return Version{Flavor: Enterprise, Major: number / 10_000, Minor: number / 100 % 100, Patch: number % 100}
	case number >= 10_000:
		return Version{Flavor: RTX, Major: number / 10_000, Minor: number / 100 % 100, Patch: number % 100}
	default:
		return Version{Flavor: Enterprise, Major: number / 1000, Minor: number / 100 % 10, Patch: number % 100}
	}
}

// abiRTX is the ABI of TensorRT for RTX in trt.h; the others are called by their
// major version.
const abiRTX = 1

const supported = "expected TensorRT 10.x, 11.x or TensorRT for RTX 1.6"

// abi returns the number in trt.h of the tables that fit a version.
func (v Version) abi() (int, error) {
	switch {
	case v.Flavor == RTX && v.Major == 1 && v.Minor == 6:
		return abiRTX, nil
	case v.Flavor == RTX:
		// The tables changed between 1.3 and 1.6 under one file name.
		return 0, fmt.Errorf("%s, found %s, whose interface differs", supported, v)
	case v.Major == 8 && v.Minor >= 5, v.Major == 10, v.Major == 11:
		return v.Major, nil
	}
	return 0, fmt.Errorf("%s, found %s", supported, v)
}
