package trt

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
)

// abis are looked for in this order, the newest first.
var abis = []struct {
	abi             int
	library, parser string // file names
}{
	{11, "libnvinfer.so.11", "libnvonnxparser.so.11"},
	{10, "libnvinfer.so.10", "libnvonnxparser.so.10"},
	{8, "libnvinfer.so.8", "libnvonnxparser.so.8"},
	{abiRTX, "libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"},
}

// wheelFolders are where NVIDIA's Python packages keep the libraries.
var wheelFolders = []string{"tensorrt_libs", "tensorrt_rtx_libs", "tensorrt_rtx"}

// DefaultFolders are where TensorRT's packages put its libraries: JetPack's,
// Debian's, and an archive that was unpacked by hand.
func DefaultFolders() []string {
	system := map[string]string{"amd64": "/usr/lib/x86_64-linux-gnu", "arm64": "/usr/lib/aarch64-linux-gnu"}
	folders := []string{"/usr/local/tensorrt*/lib", "/usr/local/TensorRT*/lib", "/opt/tensorrt/lib"}
	if own, known := system[runtime.GOARCH]; known {
		folders = append([]string{own}, folders...)
	}
	return folders
}

// candidates returns the paths and names to open, in the order of preference,
// and what to tell where none can be: only what would serve. has says for which
// interfaces gladd was compiled.
func candidates(options Options, has func(abi int) bool) (paths, tried []string) {
	if options.Library != "" {
		return []string{options.Library}, []string{options.Library}
	}
	if options.Folders == nil {
		// A name without a slash is looked for by the loader, in LD_LIBRARY_PATH too.
		for _, abi := range abis {
			paths = append(paths, abi.library)
			if has(abi.abi) {
				tried = append(tried, abi.library)
			}
		}
		options.Folders = DefaultFolders()
	}
	tried = append(append(tried, options.Folders...), options.SitePackages...)
	folders := options.Folders[:len(options.Folders):len(options.Folders)]
	for _, root := range options.SitePackages {
		for _, folder := range wheelFolders {
			folders = append(folders, filepath.Join(root, folder))
		}
	}
	for _, pattern := range folders {
		matches, err := filepath.Glob(pattern)
		if err != nil { // no pattern: a folder with odd characters
			matches = []string{pattern}
		}
		for _, folder := range matches {
			for _, abi := range abis {
				path := filepath.Join(folder, abi.library)
				if _, err := os.Stat(path); err == nil {
					paths = append(paths, path)
				}
			}
		}
	}
	return paths, tried
}

// parserCandidates returns where the ONNX parser of a library may be.
func parserCandidates(abi int, library, given string) []string {
	if given != "" {
		return []string{given}
	}
	for _, names := range abis {
		if names.abi == abi {
			return []string{filepath.Join(filepath.Dir(library), names.parser), names.parser}
		}
	}
	return nil
}

// libraryName is the file name of an interface's library.
func libraryName(abi int) string {
	for _, names := range abis {
		if names.abi == abi {
			return names.library
		}
	}
	return ""
}

// isThere says whether a path names a file or a folder. A bare name is the loader's to
// look for.
func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil && strings.ContainsRune(path, '/')
}

var soVersion = regexp.MustCompile(`\.so\.(\d+)(?:\.(\d+))?`)

// checkParser compares the version in the parser's file name, of which it states
// no other, to the library's. Only what the name tells is compared.
func checkParser(path string, version Version) error {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil //nolint:nilerr // a name that the loader looks for; it is opened next, and told of there
	}
	found := soVersion.FindStringSubmatch(filepath.Base(resolved))
	if found == nil {
		return nil
	}
	major, _ := strconv.Atoi(found[1])
	minor, errMinor := strconv.Atoi(found[2])
	if major != version.Major || errMinor == nil && minor != version.Minor {
		return fmt.Errorf("expected the ONNX parser of %s, found %s", version, resolved)
	}
	return nil
}
