package trt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCandidates(t *testing.T) {
	root := t.TempDir()
	for _, file := range []string{
		"lib/libnvinfer.so.8", "lib/libnvinfer.so.10", "lib/libnvinfer.so.9", "tensorrt-10.3/lib/libnvinfer.so.10", "tensorrt-11/lib/libnvinfer.so.11",
		"site/tensorrt_libs/libnvinfer.so.10", "site/tensorrt_rtx_libs/libtensorrt_rtx.so.1", "site/other/libnvinfer.so.10",
	} {
		touch(t, filepath.Join(root, file))
	}
	names := []string{"libnvinfer.so.11", "libnvinfer.so.10", "libnvinfer.so.8", "libtensorrt_rtx.so.1"}
	told := []string{"libnvinfer.so.11", "libnvinfer.so.10", "libtensorrt_rtx.so.1"}
	not8 := func(abi int) bool { return abi != 8 } // as gladd is compiled by default
	for _, test := range []struct {
		name        string
		options     Options
		paths, told []string // below the root, if they have a folder
	}{
		{"configured", Options{Library: "/somewhere/libnvinfer.so.10", Folders: []string{root + "/lib"}},
			[]string{"/somewhere/libnvinfer.so.10"}, []string{"/somewhere/libnvinfer.so.10"}},
		{"the newest of a folder first", Options{Folders: []string{root + "/lib"}}, []string{"lib/libnvinfer.so.10", "lib/libnvinfer.so.8"}, []string{"lib"}},
		{"patterns", Options{Folders: []string{root + "/tensorrt*/lib"}},
			[]string{"tensorrt-10.3/lib/libnvinfer.so.10", "tensorrt-11/lib/libnvinfer.so.11"}, []string{"tensorrt*/lib"}},
		{"Python's packages", Options{Folders: []string{}, SitePackages: []string{root + "/site"}},
			[]string{"site/tensorrt_libs/libnvinfer.so.10", "site/tensorrt_rtx_libs/libtensorrt_rtx.so.1"},
			[]string{"site"}},
		{"nothing", Options{Folders: []string{root + "/nothing"}}, nil, []string{"nothing"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			paths, tried := candidates(test.options, not8)
			for _, list := range []struct{ want, found []string }{{test.paths, paths}, {test.told, tried}} {
				var want []string
				for _, path := range list.want {
					if !filepath.IsAbs(path) {
						path = filepath.Join(root, path)
					}
					want = append(want, path)
				}
				if !slices.Equal(want, list.found) {
					t.Errorf("want %v, found %v", want, list.found)
				}
			}
		})
	}
	paths, tried := candidates(Options{}, not8)
	if !slices.Equal(paths[:4], names) || !slices.Equal(tried, append(told, DefaultFolders()...)) {
		t.Errorf("without options: found %v, %v", paths, tried)
	}
}

func TestParserCandidates(t *testing.T) {
	for _, test := range []struct {
		abi            int
		library, given string
		want           []string
	}{
		{10, "/opt/tensorrt/lib/libnvinfer.so.10", "", []string{"/opt/tensorrt/lib/libnvonnxparser.so.10", "libnvonnxparser.so.10"}},
		{abiRTX, "/x/libtensorrt_rtx.so.1", "", []string{"/x/libtensorrt_onnxparser_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"}},
		{11, "/x/libnvinfer.so.11", "/y/parser.so", []string{"/y/parser.so"}},
	} {
		if found := parserCandidates(test.abi, test.library, test.given); !slices.Equal(found, test.want) {
			t.Errorf("want %v, found %v", test.want, found)
		}
	}
}

func TestCheckParser(t *testing.T) {
	folder := t.TempDir()
	touch(t, filepath.Join(folder, "libnvonnxparser.so.10.3.0"))
	touch(t, filepath.Join(folder, "libnvonnxparser.so"))
	link := filepath.Join(folder, "libnvonnxparser.so.10")
	if err := os.Symlink("libnvonnxparser.so.10.3.0", link); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, path string
		version    Version
		want       string
	}{
		{"the same version", link, Version{Enterprise, 10, 3, 0}, ""},
		{"another patch", link, Version{Enterprise, 10, 3, 1}, ""},
		{"another minor version", link, Version{Enterprise, 10, 16, 0}, "expected the ONNX parser of TensorRT 10.16.0, found "},
		{"another major version", link, Version{Enterprise, 11, 3, 0}, "expected the ONNX parser of TensorRT 11.3.0, found "},
		{"a name without a version", filepath.Join(folder, "libnvonnxparser.so"), Version{Enterprise, 11, 3, 0}, ""},
		{"a bare name", "libnvonnxparser.so.10", Version{Enterprise, 11, 3, 0}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := checkParser(test.path, test.version)
			if (err == nil) != (test.want == "") || err != nil && !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("want %q, found %v", test.want, err)
			}
		})
	}
}

func TestVersions(t *testing.T) {
	for _, test := range []struct {
		number  int
		text    string
		version Version
		abi     int // 0: refused
	}{
		{8401, "TensorRT 8.4.1", Version{Enterprise, 8, 4, 1}, 0},
		{8502, "TensorRT 8.5.2", Version{Enterprise, 8, 5, 2}, 8},
		{8600, "TensorRT 8.6.0", Version{Enterprise, 8, 6, 0}, 8},
		{9300, "TensorRT 9.3.0", Version{Enterprise, 9, 3, 0}, 0},
		{100001, "TensorRT 10.0.1", Version{Enterprise, 10, 0, 1}, 10},
		{101501, "TensorRT 10.15.1", Version{Enterprise, 10, 15, 1}, 10},
		{110400, "TensorRT 11.4.0", Version{Enterprise, 11, 4, 0}, 11},
		{120000, "TensorRT 12.0.0", Version{Enterprise, 12, 0, 0}, 0},
		{10601, "TensorRT for RTX 1.6.1", Version{RTX, 1, 6, 1}, abiRTX},
		{10300, "TensorRT for RTX 1.3.0", Version{RTX, 1, 3, 0}, 0},
	} {
		t.Run(test.text, func(t *testing.T) {
			version := decodeVersion(test.number)
			if version != test.version || version.String() != test.text {
				t.Errorf("want %+v, found %+v, %s", test.version, version, version)
			}
			abi, err := version.abi()
			if abi != test.abi || (err == nil) != (test.abi != 0) {
				t.Errorf("interface: want %d, found %d, %v", test.abi, abi, err)
			}
			if err != nil && (!strings.Contains(err.Error(), test.text) || !strings.Contains(err.Error(), "10.x, 11.x")) {
				t.Errorf("want an error that names both versions, found %v", err)
			}
		})
	}
}

// The texts of RTX 1.6 were written by that library. The others are as its users
// report them: RootKit-Org/AI-Aimbot 109, NVIDIA/TensorRT 2041,
// yuvraj108c/ComfyUI-Dwpose-Tensorrt 5, lix19937/tensorrt-insight 65,
// deepinsight/insightface 2882, pytorch/TensorRT 2675.
func TestPlanReasons(t *testing.T) {
	for _, test := range []struct {
		name, cause string
		want        Reason
	}{
		{"RTX 1.6, garbage", "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion header.magicTag == kEXPECTED_MAGIC_TAG failed.Trying to load an engine created with incompatible serialization version (1684106343).", ReasonVersion},
		{"RTX 1.6, truncated", "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion plan.header.size == blobSize failed. In parsePlan at /_src/runtime/dispatch/runtime.cpp:663)", ReasonCorrupt},
		{"RTX 1.6, no GPU", "IRuntime::deserializeCudaEngine: Error Code 1: Cuda Runtime (In ScopedCudaStream at /_src/common/dispatch/cudaResources.cpp:25 (cudaError 35: CUDA driver version is insufficient for CUDA runtime version))", ReasonOther},
		{"8.5, another version", "6: The engine plan file is not compatible with this version of TensorRT, expecting library version 8.5.1.7 got 8.5.3.1, please rebuild.", ReasonVersion},
		{"8.2, another version", "1: [stdArchiveReader.cpp::StdArchiveReader::40] Error Code 1: Serialization (Serialization assertion stdVersionRead == serializationVersion failed.Version tag does not match. Note: Current Version: 213, Serialized Engine Version: 205)", ReasonVersion},
		{"10.x, another version", "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed.Version tag does not match. Note: Current Version: 237, Serialized Engine Version: 239)", ReasonVersion},
		{"10.7, of 11.3", "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion plan->header.magicTag == rt::kPLAN_MAGIC_TAG failed.Trying to load an engine created with incompatible serialization version. Check that the engine was not created using safety runtime, same OS was used and version compatibility parameters were set accordingly.)", ReasonVersion},
		{"8.x, garbage", "1: [stdArchiveReader.cpp::StdArchiveReader::32] Error Code 1: Serialization (Serialization assertion magicTagRead == kMAGIC_TAG failed.Magic tag does not match)", ReasonCorrupt},
		{"10.8, another GPU", "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine plan file is generated on an incompatible device, expecting compute 8.9 got compute 8.6, please rebuild.)", ReasonGPU},
		{"8.5, memory", "2: [virtualMemoryBuffer.cpp::resizePhysical::160] Error Code 2: OutOfMemory (no further information)", ReasonMemory},
		{"unknown", "Error Code 1: Cuda Runtime (invalid argument)", ReasonOther},
		{"nothing", "", ReasonOther},
	} {
		t.Run(test.name, func(t *testing.T) {
			if found := planReason(test.cause); found != test.want {
				t.Errorf("want %s, found %s", test.want, found)
			}
		})
	}
}

func TestFaultsOfCUDA(t *testing.T) {
	for _, test := range []struct {
		cause     string
		cuda, old bool
	}{
		{"IRuntime::deserializeCudaEngine: Error Code 1: Cuda Runtime (In ScopedCudaStream at /_src/common/dispatch/cudaResources.cpp:25 (cudaError 35: CUDA driver version is insufficient for CUDA runtime version))", true, true},
		{"CUDA initialization failure with error: 35", true, true},
		{"Error Code 1: Cuda Runtime (invalid argument)", true, false},
		{"IBuilder::buildSerializedNetwork: Error Code 4: Internal Error (node 35: no kernel)", false, false},
		{"", false, false},
	} {
		for _, err := range []error{&PlanError{ReasonOther, test.cause}, &CallError{"c", "", test.cause}, fmt.Errorf("x: %w", &BuildError{Cause: test.cause})} {
			if OfCUDA(err) != test.cuda || DriverTooOld(err) != test.old {
				t.Errorf("%v: want %t, %t, found %t, %t", err, test.cuda, test.old, OfCUDA(err), DriverTooOld(err))
			}
		}
	}
	if OfCUDA(errors.New("cudaError 35")) {
		t.Error("an error of another package: want false")
	}
}

func TestErrorTexts(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{&LibraryError{Tried: []string{"libnvinfer.so.11", "/opt/tensorrt/lib"}},
			"TensorRT library: not found in libnvinfer.so.11, /opt/tensorrt/lib; install TensorRT, or name its library with --tensorrt-library or in the configuration"},
		{&LibraryError{Tried: []string{"/x.so"}, Err: ErrClosed}, "TensorRT library /x.so: it is closed; install TensorRT, or name its library with --tensorrt-library or in the configuration"},
		{&LibraryError{Err: errNotBuilt}, "this gladd was built without TensorRT; build it with cgo on Linux and the tag tensorrt, or choose the backend onnxruntime"},
		{&BuildError{Stage: StageParse, Reason: ReasonUnsupported, Node: "n", Operator: "Op", Call: "IParser::parse", Cause: "why"},
			"TensorRT build: parse: an operator is not supported by this TensorRT; export the network without it, or use a newer TensorRT: operator Op of node n: IParser::parse: why"},
		{&BuildError{Stage: StageConfigure, Reason: ReasonRange, Node: "in", Cause: "why"},
			"TensorRT build: configure: a range must have min <= opt <= max and belong to an input of the network: in: why"},
		{&PlanError{ReasonGPU, "why"}, "TensorRT engine: it was built for another GPU; build it again: why"},
		{&CallError{"setInputShape", "in", "why"}, "TensorRT setInputShape in: why"},
		{&CallError{"enqueueV3", "", "why"}, "TensorRT enqueueV3: why"},
	} {
		if found := test.err.Error(); found != test.want {
			t.Errorf("want  %s\nfound %s", test.want, found)
		}
	}
}
