package app_test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"gladd/capture"
	"gladd/daemon/internal/inspection"
	"gladd/engines/enginetest"
	"gladd/pipeline"
)

// benchModel opens the model and lists the pictures that 'make bench' names;
// without it the golden bundle's.
func benchModel(b *testing.B) (*inspection.Model, []capture.File) {
	b.Helper()
	bundle, data := os.Getenv("GLADD_BENCH_BUNDLE"), os.Getenv("GLADD_BENCH_DATA")
	if bundle == "" {
		bundle = enginetest.TinyA(b)
		data = bundle + "/images"
	}
	files, err := capture.FindFiles([]string{data}, "")
	if err != nil {
		b.Fatal(err)
	}
	return openModel(b, enginetest.Load(b, bundle)), files
}

// inspectFile does for a picture what 'gladd inspect' does, and returns where
// the time went.
func inspectFile(b *testing.B, model *inspection.Model, file capture.File) (pipeline.Timings, time.Duration) {
	b.Helper()
	began := time.Now()
	picture, err := capture.ReadPicture(file.Path, 0)
	if err != nil {
		b.Fatal(err)
	}
	outcome := model.Inspector.Inspect(b.Context(), inspection.Part{Picture: picture})
	if !outcome.Scored {
		b.Fatalf("%s: %s", file.Path, outcome.Reason.Detail)
	}
	return outcome.Result.Timings, time.Since(began)
}

// BenchmarkInspect measures whole pictures, spread evenly over the data, and
// the share of the time that is spent inside the networks.
func BenchmarkInspect(b *testing.B) {
	model, files := benchModel(b)
	inspectFile(b, model, files[0])
	var networks, total, compare time.Duration
	pictures := 0
	b.ReportAllocs()
	for b.Loop() {
		timings, whole := inspectFile(b, model, files[pictures*61%len(files)])
		networks += timings.Networks()
		compare += timings.Compare
		total += whole
		pictures++
	}
	perPicture := func(duration time.Duration) float64 {
		return float64(duration) / float64(time.Millisecond) / float64(pictures)
	}
	b.ReportMetric(perPicture(total), "ms/picture")
	b.ReportMetric(perPicture(total-networks), "ms-outside-networks/picture")
	b.ReportMetric(100*float64(networks)/float64(total), "%-in-networks")
	b.ReportMetric(100*float64(compare)/float64(total), "%-in-comparisons")
}

// BenchmarkSoak inspects many pictures and prints how the process's memory
// changed after the first tenth.
func BenchmarkSoak(b *testing.B) {
	count, err := strconv.Atoi(os.Getenv("GLADD_BENCH_SOAK"))
	if err != nil {
		b.Skip("GLADD_BENCH_SOAK does not say how many inspections")
	}
	model, files := benchModel(b)
	for b.Loop() {
		var early float64
		for i := range count {
			inspectFile(b, model, files[i%len(files)])
			if i+1 == count/10 {
				early = residentMiB(b)
			}
		}
		late := residentMiB(b)
		b.ReportMetric(float64(count), "inspections")
		b.ReportMetric(early, "MiB-after-a-tenth")
		b.ReportMetric(late, "MiB-at-the-end")
		b.ReportMetric(late-early, "MiB-grown")
	}
}

// residentMiB is the process's resident memory.
func residentMiB(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip(err)
	}
	for line := range bytes.Lines(status) {
		if value, found := strings.CutPrefix(string(line), "VmRSS:"); found {
			var kib float64
			if _, err := fmt.Sscanf(value, "%f kB", &kib); err != nil {
				b.Fatal(err)
			}
			return kib / 1024
		}
	}
	b.Fatal("no VmRSS in /proc/self/status")
	return 0
}
