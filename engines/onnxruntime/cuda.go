package onnxruntime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	ort "github.com/yalue/onnxruntime_go"

	"gladd/trt/cuda"
)

// cudaProvider is the library that ONNX Runtime's GPU build has beside its own.
const cudaProvider = "libonnxruntime_providers_cuda.so"

// CUDAError says that ONNX Runtime cannot run networks on a GPU here.
type CUDAError struct {
	Library string // ONNX Runtime's; empty: none of the GPU build was found
	Err     error
	Machine bool // it is the machine's, and may be gone at the next start
}

func (e *CUDAError) Error() string {
	found := ""
	if e.Library != "" {
		found = ", found " + e.Library
	}
	return fmt.Sprintf("backend %s: %v; expected the GPU build of ONNX Runtime (name it with --onnxruntime-library), the CUDA and cuDNN libraries that it was built for, "+
		"and an NVIDIA GPU with its driver%s; without them use backend %s", NameCUDA, e.Err, found, Name)
}

func (e *CUDAError) Unwrap() error { return e.Err }

// cudaSettings are the provider's. Other keys are left as ONNX Runtime has them.
var cudaSettings = map[string]string{
	"device_id": "0",
	// TF32 keeps ten bits of a product's factors; the precision here is fp32, as on
	// processors.
	"use_tf32": "0",
	// EXHAUSTIVE, the default, times cuDNN's convolutions at each start and takes the
	// quickest, which may be another one each time and round otherwise: a part near the
	// threshold would be judged otherwise after a start than before it. HEURISTIC
	// chooses without timing (onnxruntime.ai, CUDA Execution Provider,
	// cudnn_conv_algo_search).
	"cudnn_conv_algo_search": "HEURISTIC",
}

// appendCUDA makes sessions run on the first GPU.
func appendCUDA(options *ort.SessionOptions) error {
	provider, err := ort.NewCUDAProviderOptions()
	if err != nil {
		return err
	}
	defer provider.Destroy() //nolint:errcheck // the session options have a copy
	if err := provider.Update(cudaSettings); err != nil {
		return err
	}
	return options.AppendExecutionProviderCUDA(provider)
}

// PresentCUDA says what the CUDA provider lacks here; nil: the library's GPU build, a
// driver and a GPU are here. Whether CUDA's and cuDNN's libraries are shows when
// networks are opened.
func PresentCUDA(library, cudaLibrary string) error {
	if _, err := findCUDALibrary(library); err != nil {
		return err
	}
	driver, err := cuda.Open(cuda.Options{Library: cudaLibrary})
	if err != nil {
		return err
	}
	defer driver.Close() //nolint:errcheck // it was only looked at
	_, err = driver.Devices()
	return err
}

// findCUDALibrary returns the path of the library's GPU build: the one given, or
// the first in the usual places that has the CUDA provider beside it.
func findCUDALibrary(given string) (string, error) {
	if given != "" {
		path, err := findLibrary(given)
		if err != nil {
			return "", err
		}
		if !hasCUDA(path) {
			return "", &CUDAError{Library: path, Err: fmt.Errorf("no %s beside the library", cudaProvider), Machine: true}
		}
		return path, nil
	}
	var tried []string
	for _, folder := range libraryFolders() {
		for _, folder := range []string{filepath.Join(folder, "cuda"), folder} {
			if path := libraryIn(folder); path != "" && hasCUDA(path) {
				return path, nil
			}
			tried = append(tried, folder)
		}
	}
	return "", &CUDAError{Err: fmt.Errorf("no libonnxruntime.so with %s beside it in %s", cudaProvider, strings.Join(tried, ", ")), Machine: true}
}

// hasCUDA says whether a library is of the GPU build.
func hasCUDA(library string) bool {
	resolved, err := filepath.EvalSymlinks(library)
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join(filepath.Dir(resolved), cudaProvider))
	return err == nil
}
