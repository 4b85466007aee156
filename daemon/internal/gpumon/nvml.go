package gpumon

import (
	"errors"
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/dl"
	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// libraryName is NVML's library, which comes with the driver.
const libraryName = "libnvidia-ml.so.1"

// nvmlReader reads through NVML. A symbol that the driver's library lacks
// would end the process when it is called, so each is looked up before.
type nvmlReader struct {
	api nvml.Interface
	has func(symbol string) bool
}

// openNVML initializes NVML; its error says why that cannot be done.
func openNVML() (reader, error) {
	// Opened once more beside go-nvml, which can look symbols up only after
	// the first of them was called.
	library := dl.New(libraryName, dl.RTLD_LAZY|dl.RTLD_GLOBAL)
	if err := library.Open(); err != nil {
		return nil, fmt.Errorf("no NVIDIA driver: %s cannot be loaded", libraryName)
	}
	has := func(symbol string) bool { return library.Lookup(symbol) == nil }
	opened, err := newNVMLReader(nvml.New(nvml.WithLibraryPath(libraryName)), has)
	if err != nil {
		return nil, errors.Join(err, library.Close())
	}
	return opened, nil
}

func newNVMLReader(api nvml.Interface, has func(symbol string) bool) (*nvmlReader, error) {
	for _, symbol := range []string{"nvmlInit_v2", "nvmlShutdown", "nvmlErrorString", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2"} {
		if !has(symbol) {
			return nil, fmt.Errorf("%s has no %s; the NVIDIA driver is too old", libraryName, symbol)
		}
	}
	if result := api.Init(); result != nvml.SUCCESS {
		// No other call may be made now, not even for the error's text.
		return nil, fmt.Errorf("NVML cannot be initialized (code %d); is the NVIDIA driver running?", int(result))
	}
	return &nvmlReader{api: api, has: has}, nil
}

func (n *nvmlReader) close() { _ = n.api.Shutdown() } // nobody could mend its failure

func (n *nvmlReader) read() (Report, error) {
	count, result := n.api.DeviceGetCount()
	if result != nvml.SUCCESS {
		return Report{}, fmt.Errorf("NVML: count of GPUs: %s", n.api.ErrorString(result))
	}
	report := Report{Monitor: MonitorNVML, GPUs: []GPU{}}
	if n.has("nvmlSystemGetDriverVersion") {
		if version, result := n.api.SystemGetDriverVersion(); result == nvml.SUCCESS {
			report.Driver = &version
		}
	}
	for index := range count {
		device, result := n.api.DeviceGetHandleByIndex(index)
		if result != nvml.SUCCESS {
			return Report{}, fmt.Errorf("NVML: GPU %d: %s", index, n.api.ErrorString(result))
		}
		report.GPUs = append(report.GPUs, n.readDevice(index, device))
	}
	return report, nil
}

func (n *nvmlReader) readDevice(index int, device nvml.Device) GPU {
	gpu := GPU{Index: index}
	if n.has("nvmlDeviceGetName") {
		gpu.Name = optional(device.GetName())
	}
	if n.has("nvmlDeviceGetUUID") {
		gpu.UUID = optional(device.GetUUID())
	}
	if n.has("nvmlDeviceGetTemperature") {
		gpu.TemperatureC = number(device.GetTemperature(nvml.TEMPERATURE_GPU))
	}
	if n.has("nvmlDeviceGetPowerUsage") {
		if gpu.PowerW = number(device.GetPowerUsage()); gpu.PowerW != nil {
			*gpu.PowerW /= 1000 // NVML gives milliwatts
		}
	}
	if n.has("nvmlDeviceGetUtilizationRates") {
		if rates, result := device.GetUtilizationRates(); result == nvml.SUCCESS {
			gpu.UtilizationPercent = number(rates.Gpu, result)
		}
	}
	if n.has("nvmlDeviceGetMemoryInfo") {
		if memory, result := device.GetMemoryInfo(); result == nvml.SUCCESS {
			gpu.MemoryUsedBytes, gpu.MemoryTotalBytes = number(memory.Used, result), number(memory.Total, result)
		}
	}
	// The newer name of the same question, and the older one.
	switch {
	case n.has("nvmlDeviceGetCurrentClocksEventReasons"):
		gpu.Throttling = throttling(device.GetCurrentClocksEventReasons())
	case n.has("nvmlDeviceGetCurrentClocksThrottleReasons"):
		gpu.Throttling = throttling(device.GetCurrentClocksThrottleReasons())
	}
	return gpu
}

func optional(value string, result nvml.Return) *string {
	if result != nvml.SUCCESS {
		return nil
	}
	return &value
}

func number[N uint32 | uint64](value N, result nvml.Return) *float64 {
	if result != nvml.SUCCESS {
		return nil
	}
	converted := float64(value)
	return &converted
}

// throttlingReasons are the reasons that mean trouble; an idle GPU and clocks
// that somebody set do not.
var throttlingReasons = []struct {
	bit  uint64
	name string
}{
	{nvml.ClocksEventReasonSwPowerCap, "power_cap"},
	{nvml.ClocksThrottleReasonHwSlowdown, "hardware_slowdown"},
	{nvml.ClocksEventReasonSwThermalSlowdown, "thermal"},
	{nvml.ClocksThrottleReasonHwThermalSlowdown, "hardware_thermal"},
	{nvml.ClocksThrottleReasonHwPowerBrakeSlowdown, "power_brake"},
}

func throttling(reasons uint64, result nvml.Return) *[]string {
	if result != nvml.SUCCESS {
		return nil
	}
	names := []string{}
	for _, reason := range throttlingReasons {
		if reasons&reason.bit != 0 {
			names = append(names, reason.name)
		}
	}
	return &names
}
