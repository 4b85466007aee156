package cuda

// Codes of the driver API that are told apart here: enum CUresult in "Data
// types used by CUDA driver". The last of them came with CUDA 12.8.
const (
	codeSuccess             = 0
	codeInvalidValue        = 1
	codeOutOfMemory         = 2
	codeNotInitialized      = 3
	codeDeinitialized       = 4
	codeStubLibrary         = 34
	codeInsufficientDriver  = 35 // of the CUDA runtime, which libraries report through
	codeNewerDriver         = 36
	codeDeviceUnavailable   = 46
	codeNoDevice            = 100
	codeInvalidDevice       = 101
	codeNotLicensed         = 102
	codeInvalidContext      = 201
	codeNoBinary            = 209
	codeECC                 = 214
	codeNVLink              = 220
	codeUnsupportedPTX      = 222
	codeContained           = 226
	codeOperatingSystem     = 304
	codeInvalidHandle       = 400
	codeNotReady            = 600
	codeIllegalAddress      = 700
	codeLaunchTimeout       = 702
	codeContextDestroyed    = 709
	codeAssert              = 710
	codeHardwareStack       = 714
	codeIllegalInstruction  = 715
	codeMisalignedAddress   = 716
	codeInvalidAddressSpace = 717
	codeInvalidPC           = 718
	codeLaunchFailed        = 719
	codeTensorMemoryLeak    = 721
	codeNotPermitted        = 800
	codeNotSupported        = 801
	codeSystemNotReady      = 802
	codeDriverMismatch      = 803
	codeCompatNotSupported  = 804
	codeMPSFirst            = 805
	codeMPSLast             = 810
	codeCaptureFirst        = 900
	codeCaptureLast         = 908
	codeUnknown             = 999
)

// sticky reports whether the context is of no more use after the code: those of
// which the reference says that any further work returns the same error (226,
// 700, 702, 714 to 719, 721) or that the context must be destroyed (710), the
// uncorrectable errors of memory and NVLink (214, 220), and 709, after which
// there is no context.
func sticky(code int) bool {
	switch code {
	case codeECC, codeNVLink, codeContained, codeIllegalAddress, codeLaunchTimeout, codeContextDestroyed, codeAssert, codeTensorMemoryLeak:
		return true
	}
	return codeHardwareStack <= code && code <= codeLaunchFailed
}

// hint says in plain words what to do about a code; empty: there is nothing to
// say.
func hint(code int) string {
	switch code {
	case codeInvalidValue, codeInvalidHandle, codeInvalidContext, codeNotInitialized:
		return "this is a fault of gladd; report it with the log"
	case codeOutOfMemory:
		return "use a smaller batch or fewer models, or end other programs that use the GPU"
	case codeDeinitialized:
		return "the program is ending"
	case codeStubLibrary:
		return "the library is the CUDA toolkit's stub; remove its folder from the loader's path, so that the driver's own libcuda.so.1 is found"
	case codeInsufficientDriver, codeNewerDriver:
		return "the NVIDIA driver is too old; install one for CUDA " + MinimumVersion.String() + " or newer"
	case codeDeviceUnavailable:
		return "another process holds the GPU, or its compute mode forbids use; end that process, or see 'nvidia-smi -q -d COMPUTE'"
	case codeNoDevice:
		return "the driver sees no GPU; see that 'nvidia-smi' lists one, that CUDA_VISIBLE_DEVICES does not hide it and that a container was given it"
	case codeInvalidDevice:
		return "choose a GPU that 'nvidia-smi -L' lists"
	case codeNotLicensed:
		return "apply the vGPU licence"
	case codeNoBinary, codeUnsupportedPTX:
		return "the engine was built for another GPU or a newer driver; build it on this box"
	case codeOperatingSystem:
		return "see the kernel's log, and that /dev/nvidia* may be read and written by gladd's user"
	case codeECC, codeNVLink, codeContained:
		return "the hardware failed; reset the GPU or restart the box, and replace the GPU if it comes again"
	case codeLaunchTimeout:
		return "the GPU's work took longer than the driver allows; restart gladd, and do not drive a display with this GPU"
	case codeNotPermitted:
		return "gladd's user may not do this; see the service's sandbox and the device files' owners"
	case codeNotSupported:
		return "this GPU or driver cannot do it; see the documentation for supported boxes"
	case codeSystemNotReady:
		return "a service of the driver is not running; start nvidia-fabricmanager or restart the box"
	case codeDriverMismatch:
		return "the kernel's driver and libcuda.so.1 are of different versions; restart the box, or install both from one package"
	case codeCompatNotSupported:
		return "the CUDA compatibility library does not support this GPU; remove it and install a newer driver"
	case codeUnknown:
		return "see the kernel's log ('dmesg | grep -i -e nvrm -e nvgpu'); restarting the box often helps"
	}
	switch {
	case sticky(code):
		return "work on the GPU failed and its context is lost; reset the device, and restart gladd if that does not help"
	case codeMPSFirst <= code && code <= codeMPSLast:
		return "see that the MPS control daemon runs, or stop using it"
	case codeCaptureFirst <= code && code <= codeCaptureLast:
		return "a call that a CUDA graph cannot hold was made while one was captured; capture after a first run without a graph"
	}
	return ""
}
