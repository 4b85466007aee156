package gpumon

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	mockserver "github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"
)

func everySymbol(string) bool { return true }

// a100 is go-nvml's own machine of eight GPUs, with one reading of each kind.
func a100() *mockserver.Server {
	server := dgxa100.New()
	server.DeviceGetHandleByIndexFunc = func(index int) (nvml.Device, nvml.Return) {
		device := server.Devices[index].(*mockserver.Device)
		device.GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 61, nvml.SUCCESS }
		device.GetPowerUsageFunc = func() (uint32, nvml.Return) { return 123_400, nvml.SUCCESS }
		device.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{Gpu: 87}, nvml.SUCCESS }
		device.GetCurrentClocksEventReasonsFunc = func() (uint64, nvml.Return) {
			return nvml.ClocksEventReasonSwPowerCap | nvml.ClocksEventReasonGpuIdle, nvml.SUCCESS
		}
		return device, nvml.SUCCESS
	}
	server.ErrorStringFunc = func(nvml.Return) string { return "lost" }
	return server
}

func TestReading(t *testing.T) {
	opened, err := newNVMLReader(a100(), everySymbol)
	if err != nil {
		t.Fatal(err)
	}
	report, err := opened.read()
	if err != nil {
		t.Fatal(err)
	}
	if len(report.GPUs) != 8 || *report.Driver == "" {
		t.Fatalf("want 8 GPUs and a driver, found %+v", report)
	}
	gpu := report.GPUs[3]
	if gpu.Index != 3 || *gpu.TemperatureC != 61 || *gpu.PowerW != 123.4 || *gpu.UtilizationPercent != 87 || *gpu.MemoryTotalBytes == 0 {
		t.Errorf("found %+v", gpu)
	}
	if got := *gpu.Throttling; len(got) != 1 || got[0] != "power_cap" {
		t.Errorf("want power_cap, found %v", got)
	}
}

// A call to a symbol that is not in the library would end the process.
func TestMissingSymbolsAreNotCalled(t *testing.T) {
	server := a100()
	handle := server.DeviceGetHandleByIndexFunc
	server.DeviceGetHandleByIndexFunc = func(index int) (nvml.Device, nvml.Return) {
		device, result := handle(index)
		return &mock.Device{GetNameFunc: device.GetName}, result // all other calls panic
	}
	opened, err := newNVMLReader(server, func(symbol string) bool {
		return !strings.HasPrefix(symbol, "nvmlDevice") || symbol == "nvmlDeviceGetName" ||
			symbol == "nvmlDeviceGetCount_v2" || symbol == "nvmlDeviceGetHandleByIndex_v2"
	})
	if err != nil {
		t.Fatal(err)
	}
	report, err := opened.read()
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(report.GPUs[0])
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"index":0,"name":"Mock NVIDIA A100-SXM4-40GB","uuid":null,"temperature_c":null,"power_w":null,"utilization_percent":null,` +
		`"memory_used_bytes":null,"memory_total_bytes":null,"throttling":null}`; string(encoded) != want {
		t.Errorf("what cannot be read is null: want %s, found %s", want, encoded)
	}

	_, err = newNVMLReader(&mock.Interface{}, func(symbol string) bool { return symbol != "nvmlInit_v2" })
	if want := "libnvidia-ml.so.1 has no nvmlInit_v2; the NVIDIA driver is too old"; err == nil || err.Error() != want {
		t.Errorf("want %s, found %v", want, err)
	}
}

func TestNothingIsCalledAfterAFailedInit(t *testing.T) {
	api := &mock.Interface{InitFunc: func() nvml.Return { return nvml.ERROR_DRIVER_NOT_LOADED }} // all other calls panic
	_, err := newNVMLReader(api, everySymbol)
	if want := "NVML cannot be initialized (code 9); is the NVIDIA driver running?"; err == nil || err.Error() != want {
		t.Errorf("want %s, found %v", want, err)
	}
}

// fakeReader gives what its channel says.
type fakeReader struct{ reports []error }

func (f *fakeReader) read() (Report, error) {
	err := f.reports[0]
	if len(f.reports) > 1 {
		f.reports = f.reports[1:]
	}
	return Report{Monitor: MonitorNVML, GPUs: []GPU{{}}}, err
}
func (f *fakeReader) close() {}

// An old reading is never shown as a new one, and a fault is told once.
func TestFaultAndReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		monitor := New(Options{Monitor: MonitorNVML, Interval: time.Second, Log: slog.New(slog.NewTextHandler(&log, nil))})
		lost := errors.New("GPU is lost")
		fake := &fakeReader{reports: []error{nil, lost, lost, lost, nil}}
		monitor.open = func() (reader, error) { return fake, nil }
		monitor.Run(t.Context())
		var found []string
		for range 5 {
			synctest.Wait()
			report := monitor.Report()
			if report.Reason == nil {
				found = append(found, report.Monitor)
			} else {
				found = append(found, *report.Reason)
			}
			time.Sleep(time.Second)
		}
		monitor.Close()
		monitor.Close()
		if want := "nvml,GPU is lost,GPU is lost,GPU is lost,nvml"; strings.Join(found, ",") != want {
			t.Errorf("want %s, found %v", want, found)
		}
		if count := strings.Count(log.String(), "GPU cannot be read"); count != 1 {
			t.Errorf("the fault is told once, found %d times:\n%s", count, log.String())
		}
	})
}

// Where the tests run there may be a driver or none; both must be served.
func TestThisMachine(t *testing.T) {
	monitor := New(Options{Monitor: MonitorAuto, Interval: time.Hour, Log: slog.New(slog.DiscardHandler)})
	monitor.Run(t.Context())
	defer monitor.Close()
	opened, err := openNVML()
	if err != nil {
		if !strings.Contains(err.Error(), "NVIDIA driver") {
			t.Errorf("the reason must name the driver: %v", err)
		}
		return
	}
	defer opened.close()
	if report, err := opened.read(); err == nil && report.Driver == nil {
		t.Error("NVML answers, but names no driver")
	}
}

func TestSwitchedOff(t *testing.T) {
	monitor := New(Options{Monitor: MonitorNone, Log: slog.New(slog.DiscardHandler)})
	monitor.open = func() (reader, error) { panic("it must not be asked") }
	monitor.Run(t.Context())
	monitor.Close()
	if report := monitor.Report(); report.Monitor != MonitorNone || *report.Reason != "switched off in the configuration" {
		t.Errorf("found %+v", report)
	}
}
