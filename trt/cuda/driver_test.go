//go:build linux && cgo

package cuda_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"gladd/trt/cuda"
	"gladd/trt/cuda/cudatest"
)

func TestLibraryError(t *testing.T) {
	text := filepath.Join(t.TempDir(), "libcuda.so.1")
	if err := os.WriteFile(text, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ library, want string }{
		"absent":     {"/nowhere/libcuda.so.1", "No such file or directory"},
		"no library": {text, "file too short"},
		"a folder":   {t.TempDir(), "is a folder, expected the library's file in it"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := cuda.Open(cuda.Options{Library: test.library})
			found := as[*cuda.LibraryError](t, err)
			if !reflect.DeepEqual(found.Tried, []string{test.library}) {
				t.Errorf("want %s tried, found %v", test.library, found.Tried)
			}
			wantError(t, err, test.want, test.library, "CUDA 11.4 or newer", "install the NVIDIA driver")
		})
	}
}

// A name without a slash is a file of the working folder, not the loader's.
func TestLibraryWithoutFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := cuda.Open(cuda.Options{Library: "libm.so.6"})
	found := as[*cuda.LibraryError](t, err)
	if folder, _ := os.Getwd(); found.Tried[0] != filepath.Join(folder, "libm.so.6") {
		t.Errorf("found %v", found.Tried)
	}
}

// Where the tests run there may be a driver or none; both must be served.
func TestThisMachine(t *testing.T) {
	driver, err := cuda.Open(cuda.Options{})
	if err != nil {
		var library *cuda.LibraryError
		var none *cuda.NoDeviceError
		var failed *cuda.Error
		switch {
		case errors.As(err, &library):
			wantError(t, err, "libcuda.so.1", "/usr/lib64/libcuda.so.1", "/usr/local/nvidia/lib64/libcuda.so.1", "install the NVIDIA driver")
			if len(library.Tried) < 4 || library.Tried[0] != "libcuda.so.1" {
				t.Errorf("want the loader's and the folders tried, found %v", library.Tried)
			}
		case !errors.As(err, &none) && !errors.As(err, &failed):
			t.Errorf("want a LibraryError, a NoDeviceError or an Error, found %T: %v", err, err)
		}
		t.Skipf("no driver: %v", err)
	}
	defer driver.Close() //nolint:errcheck // no device is open
	devices, err := driver.Devices()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("CUDA %s, %+v", driver.Version(), devices)
}

func TestDriverTooOld(t *testing.T) {
	for name, test := range map[string]struct {
		without string
		version int
		want    string
	}{
		"version":                 {"", 10020, "driver too old, expected CUDA 11.4 or newer, found CUDA 10.2;"},
		"symbol":                  {"cuGraphInstantiateWithFlags", 11000, "found CUDA 11.0 without cuGraphInstantiateWithFlags;"},
		"symbol of a new version": {"cuMemAlloc_v2", 12040, "found CUDA 12.4 without cuMemAlloc_v2;"},
		"no version":              {"cuDriverGetVersion", 12040, "found CUDA unknown without cuDriverGetVersion;"},
	} {
		t.Run(name, func(t *testing.T) {
			var options []cudatest.Option
			if test.without != "" {
				options = append(options, cudatest.Without(test.without))
			}
			fake := cudatest.Library(t, options...)
			fake.Set("driver_version", test.version)
			_, err := cuda.Open(cuda.Options{Library: fake.Path})
			wantAs[*cuda.LibraryError](t, err)
			old := as[*cuda.DriverTooOldError](t, err)
			if old.Symbol != test.without || old.Library != fake.Path {
				t.Errorf("found %+v", old)
			}
			wantError(t, err, test.want, "install a newer NVIDIA driver")
			if test.without == "" && fake.Count("calls") != 1 {
				t.Error("nothing but the version may be asked of a driver that is too old")
			}
		})
	}
}

func TestEitherUUIDWillDo(t *testing.T) {
	for name, test := range map[string]struct {
		options []cudatest.Option
		want    string
	}{
		"new": {nil, "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"},
		"old": {[]cudatest.Option{cudatest.Without("cuDeviceGetUuid_v2")}, "GPU-11111111-1111-1111-1111-111111111111"},
	} {
		t.Run(name, func(t *testing.T) {
			devices, err := openDriver(t, cudatest.Library(t, test.options...)).Devices()
			if err != nil {
				t.Fatal(err)
			}
			if devices[0].UUID != test.want {
				t.Errorf("want %s, found %s", test.want, devices[0].UUID)
			}
		})
	}
}

func TestDeviceWithoutUUID(t *testing.T) {
	fake := cudatest.Library(t)
	fake.Fail("cuDeviceGetUuid_v2", 801)
	devices, err := openDriver(t, fake).Devices()
	if err != nil {
		t.Fatal(err)
	}
	if devices[0].UUID != "" || devices[0].Name != "Fake Orin" {
		t.Errorf("found %+v", devices[0])
	}
}

func TestDevices(t *testing.T) {
	fake := cudatest.Library(t)
	for key, value := range map[string]int{"device_count": 2, "integrated": 0, "multiprocessors": 58, "compute_minor": 9, "memory_bytes": 1 << 30} {
		fake.Set(key, value)
	}
	fake.SetName("Fake L4")
	driver := openDriver(t, fake)
	if driver.Version() != 12040 || driver.Library() != fake.Path {
		t.Errorf("found version %s of %s", driver.Version(), driver.Library())
	}
	found, err := driver.Devices()
	if err != nil {
		t.Fatal(err)
	}
	want := cuda.Properties{
		Ordinal: 1, Name: "Fake L4", UUID: "GPU-10111213-1415-1617-1819-1a1b1c1d1e1f",
		ComputeMajor: 8, ComputeMinor: 9, TotalMemory: 1 << 30, Multiprocessors: 58,
	}
	if len(found) != 2 || found[1] != want {
		t.Errorf("want %+v, found %+v", want, found)
	}
}

func TestNoDevice(t *testing.T) {
	t.Run("cuInit", func(t *testing.T) {
		fake := cudatest.Library(t)
		fake.Fail("cuInit", 100)
		_, err := cuda.Open(cuda.Options{Library: fake.Path})
		wantAs[*cuda.NoDeviceError](t, err)
		wantAs[*cuda.Error](t, err)
		wantError(t, err, "CUDA_ERROR_NO_DEVICE (100)", "nvidia-smi")
	})
	t.Run("count fails", func(t *testing.T) {
		fake := cudatest.Library(t)
		driver := openDriver(t, fake)
		fake.FailAfter("cuDeviceGetCount", 100, 0, cudatest.Always)
		_, err := driver.Devices()
		wantAs[*cuda.NoDeviceError](t, err)
		_, err = driver.OpenDevice(0, cuda.DeviceOptions{})
		wantAs[*cuda.NoDeviceError](t, err)
	})
	t.Run("count is 0", func(t *testing.T) {
		fake := cudatest.Library(t)
		fake.Set("device_count", 0)
		_, err := openDriver(t, fake).Devices()
		wantAs[*cuda.NoDeviceError](t, err)
		wantError(t, err, "expected 1 or more, found 0", "CUDA_VISIBLE_DEVICES")
	})
}

// Every code has the driver's words and, where something can be done, ours.
func TestErrorsOfInit(t *testing.T) {
	for code, want := range map[int]string{
		34:  "the CUDA toolkit's stub",
		35:  "too old",
		36:  "install one for CUDA 11.4 or newer",
		46:  "another process holds the GPU",
		304: "/dev/nvidia*",
		800: "sandbox",
		801: "supported boxes",
		802: "restart the box",
		803: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803): system has unsupported display driver / cuda driver combination; the kernel's driver and libcuda.so.1 are of different versions",
		804: "compatibility library",
		805: "MPS control daemon",
		999: "the kernel's log",
		777: "cuInit: unknown error (777)",
	} {
		fake := cudatest.Library(t)
		fake.Fail("cuInit", code)
		_, err := cuda.Open(cuda.Options{Library: fake.Path})
		found := as[*cuda.Error](t, err)
		if found.Call != "cuInit" || found.Code != code || found.Sticky() || found.OutOfMemory() {
			t.Errorf("%d: found %+v", code, found)
		}
		wantError(t, err, want, fake.Path)
	}
}

func TestErrorsOfDescription(t *testing.T) {
	for symbol, call := range map[string]string{
		"cuDeviceGet": "cuDeviceGet", "cuDeviceGetName": "cuDeviceGetName", "cuDeviceGetUuid_v2": "cuDeviceGetUuid",
		"cuDeviceTotalMem_v2": "cuDeviceTotalMem_v2", "cuDeviceGetAttribute": "cuDeviceGetAttribute",
	} {
		fake := cudatest.Library(t)
		driver := openDriver(t, fake)
		fake.Fail(symbol, 999)
		_, err := driver.Devices()
		if found := as[*cuda.Error](t, err); found.Call != call {
			t.Errorf("%s: found %s", symbol, found.Call)
		}
		wantError(t, err, "CUDA device 0")
	}
}

func TestSticky(t *testing.T) {
	want := []int{214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721}
	var found []int
	for code := range 1000 {
		if err := (&cuda.Error{Code: code}); err.Sticky() {
			found = append(found, code)
			if err.Hint() == "" {
				t.Errorf("%d: nothing is said about what to do", code)
			}
		}
	}
	if !reflect.DeepEqual(found, want) {
		t.Errorf("want %v, found %v", want, found)
	}
}

func TestDriverClose(t *testing.T) {
	fake := cudatest.Library(t)
	driver := openDriver(t, fake)
	device, err := driver.OpenDevice(0, cuda.DeviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, driver.Close(), "devices [0] are open; close them first")
	if _, err := driver.OpenDevice(0, cuda.DeviceOptions{}); err == nil {
		t.Error("a device can be opened once")
	} else {
		wantError(t, err, "CUDA device 0: is open already")
	}
	if err := errors.Join(device.Close(), driver.Close(), driver.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = driver.Devices()
	if !errors.Is(err, cuda.ErrClosed) {
		t.Errorf("want ErrClosed, found %v", err)
	}
	if _, err = driver.OpenDevice(0, cuda.DeviceOptions{}); !errors.Is(err, cuda.ErrClosed) {
		t.Errorf("want ErrClosed, found %v", err)
	}
}
