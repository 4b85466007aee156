package cuda

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
)

// libraryName is the driver's library by its soname.
const libraryName = "libcuda.so.1"

// libraryFolders are searched after the loader's own: those of Debian's and
// Ubuntu's packages, of JetPack 6, of JetPack 5 and of Windows' Linux, and that where
// containers have the driver.
func libraryFolders() []string {
	const container = "/usr/local/nvidia/lib64"
	if runtime.GOARCH == "arm64" {
		return []string{"/usr/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu/nvidia", "/usr/lib/aarch64-linux-gnu/tegra", "/usr/lib64", container}
	}
	return []string{"/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib/wsl/lib", container}
}

// Driver is the opened and initialized CUDA driver. Its methods may be called
// from any goroutine.
type Driver struct {
	native  *native
	library string
	version Version
	log     *slog.Logger

	mutex   sync.Mutex
	closed  bool
	devices map[int]bool // open, by ordinal
}

// missingSymbol says which symbol a library lacks.
type missingSymbol string

func (m missingSymbol) Error() string { return "no symbol " + string(m) }

// Open loads the driver's library, looks up every call that is used and
// initializes the driver, which may take a second. Errors are a [LibraryError] (with a
// [DriverTooOldError] in it where the driver is too old), a [NoDeviceError] or
// an [Error].
func Open(options Options) (*Driver, error) {
	log := options.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	native, library, version, err := load(options.Library)
	if err != nil {
		return nil, err
	}
	driver := &Driver{native: native, library: library, version: version, log: log, devices: map[int]bool{}}
	if err := driver.check("cuInit", native.init()); err != nil {
		native.close()
		var failed *Error
		if errors.As(err, &failed) && failed.Code == codeNoDevice {
			return nil, &NoDeviceError{Err: err}
		}
		return nil, fmt.Errorf("CUDA driver %s: %w", library, err)
	}
	log.Debug("CUDA driver loaded", "library", library, "version", version.String())
	return driver, nil
}

// load opens the library that was given, or else the first that can be loaded.
func load(given string) (opened *native, library string, version Version, err error) {
	paths := []string{libraryName}
	for _, folder := range libraryFolders() {
		paths = append(paths, filepath.Join(folder, libraryName))
	}
	if given != "" {
		// The loader looks for a name without a slash in the system instead.
		absolute, err := filepath.Abs(given)
		if err != nil {
			return nil, "", 0, &LibraryError{Tried: []string{given}, Err: err}
		}
		paths = []string{absolute}
	}
	var first error
	faulty := ""
	for i, path := range paths {
		opened, found, err := openNative(path)
		version := Version(found)
		var missing missingSymbol
		switch {
		case err == nil && version < MinimumVersion:
			opened.close()
			return nil, "", 0, &LibraryError{Tried: paths[:i+1], Err: &DriverTooOldError{Library: path, Version: version}}
		case err == nil:
			return opened, path, version, nil
		case errors.As(err, &missing):
			return nil, "", 0, &LibraryError{Tried: paths[:i+1], Err: &DriverTooOldError{Library: path, Version: version, Symbol: string(missing)}}
		}
		// A library that is there and faulty tells more than one that is not.
		_, absent := os.Stat(path)
		if absent == nil && faulty == "" && filepath.IsAbs(path) {
			first, faulty = err, path
		}
		if first == nil {
			first = err
		}
	}
	if given != "" {
		faulty = paths[0]
	}
	return nil, "", 0, &LibraryError{Tried: paths, Library: faulty, Err: first}
}

// check makes an error of a call's code; nil for success.
func (d *Driver) check(call string, code int) error {
	if code == codeSuccess {
		return nil
	}
	name := d.native.errorName(code)
	if name == "" {
		name = "unknown error"
	}
	return &Error{Call: call, Code: code, Name: name, Text: d.native.errorText(code)}
}

// Version is the newest version of CUDA that the driver supports.
func (d *Driver) Version() Version { return d.version }

// Library is the path, or the name, by which the library was loaded.
func (d *Driver) Library() string { return d.library }

// Devices describes all devices, at least one: none is a [NoDeviceError].
func (d *Driver) Devices() ([]Properties, error) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.closed {
		return nil, fmt.Errorf("CUDA driver: %w", ErrClosed)
	}
	count, err := d.count()
	if err != nil {
		return nil, err
	}
	devices := make([]Properties, 0, count)
	for ordinal := range count {
		properties, err := d.describe(ordinal)
		if err != nil {
			return nil, fmt.Errorf("CUDA device %d: %w", ordinal, err)
		}
		devices = append(devices, properties)
	}
	return devices, nil
}

func (d *Driver) count() (int, error) {
	count, code := d.native.deviceCount()
	if code == codeNoDevice {
		return 0, &NoDeviceError{Err: d.check("cuDeviceGetCount", code)}
	}
	if err := d.check("cuDeviceGetCount", code); err != nil {
		return 0, fmt.Errorf("count of CUDA devices: %w", err)
	}
	if count == 0 {
		return 0, &NoDeviceError{}
	}
	return count, nil
}

// Device attributes: enum CUdevice_attribute.
const (
	attributeMultiprocessors = 16
	attributeIntegrated      = 18
	attributeComputeMajor    = 75
	attributeComputeMinor    = 76
)

func (d *Driver) describe(ordinal int) (Properties, error) {
	device, code := d.native.device(ordinal)
	if err := d.check("cuDeviceGet", code); err != nil {
		return Properties{}, err
	}
	name, code := d.native.deviceName(device)
	if err := d.check("cuDeviceGetName", code); err != nil {
		return Properties{}, err
	}
	uuid, code := d.native.deviceUUID(device)
	if err := d.check("cuDeviceGetUuid", code); err != nil && code != codeNotSupported {
		return Properties{}, err
	}
	hasUUID := code == codeSuccess
	memory, code := d.native.deviceMemory(device)
	if err := d.check("cuDeviceTotalMem_v2", code); err != nil {
		return Properties{}, err
	}
	properties := Properties{Ordinal: ordinal, Name: name, TotalMemory: memory}
	if hasUUID {
		properties.UUID = fmt.Sprintf("GPU-%x-%x-%x-%x-%x", uuid[:4], uuid[4:6], uuid[6:8], uuid[8:10], uuid[10:])
	}
	var integrated int
	for _, attribute := range []struct {
		number int
		value  *int
	}{
		{attributeComputeMajor, &properties.ComputeMajor},
		{attributeComputeMinor, &properties.ComputeMinor},
		{attributeMultiprocessors, &properties.Multiprocessors},
		{attributeIntegrated, &integrated},
	} {
		value, code := d.native.deviceAttribute(attribute.number, device)
		if err := d.check("cuDeviceGetAttribute", code); err != nil {
			return Properties{}, err
		}
		*attribute.value = value
	}
	properties.Integrated = integrated != 0
	return properties, nil
}

// reserve keeps the ordinal for a device that is about to be opened.
func (d *Driver) reserve(ordinal int) (Properties, error) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.closed {
		return Properties{}, fmt.Errorf("CUDA driver: %w", ErrClosed)
	}
	count, err := d.count()
	if err != nil {
		return Properties{}, err
	}
	if ordinal < 0 || ordinal >= count {
		return Properties{}, fmt.Errorf("CUDA device %d: expected 0 to %d, for the driver shows %d; choose one that 'nvidia-smi -L' lists", ordinal, count-1, count)
	}
	if d.devices[ordinal] {
		return Properties{}, fmt.Errorf("CUDA device %d: is open already; use the one that is open, or close it first", ordinal)
	}
	properties, err := d.describe(ordinal)
	if err != nil {
		return Properties{}, fmt.Errorf("CUDA device %d: %w", ordinal, err)
	}
	d.devices[ordinal] = true
	return properties, nil
}

func (d *Driver) forget(ordinal int) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	delete(d.devices, ordinal)
}

// Close gives the library back, which stays mapped until the process ends. It
// is an error while a device is open. It may be called twice.
func (d *Driver) Close() error {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.closed {
		return nil
	}
	if len(d.devices) > 0 {
		var open []int
		for ordinal := range d.devices {
			open = append(open, ordinal)
		}
		slices.Sort(open)
		return fmt.Errorf("CUDA driver: devices %v are open; close them first", open)
	}
	d.closed = true
	d.native.close()
	return nil
}
