package tensorrt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func testKey() Key {
	return Key{
		Graph: strings.Repeat("ab", 32), Conversion: "mixed/1", TensorRT: "enterprise 10.3.0", GPU: "Orin",
		ComputeMajor: 8, ComputeMinor: 7, Precision: "fp16", Batches: "1,2", Multiprocessors: 8,
	}
}

func put(t *testing.T, cache *Cache, key Key, plan string) {
	t.Helper()
	entry := Entry{Key: key, For: purpose{Bundle: "plate", Version: "1.0.0", Network: "unet"}, At: time.Unix(1e9, 0).UTC(), Seconds: 61.5}
	if err := cache.Put(entry, []byte(plan)); err != nil {
		t.Fatal(err)
	}
}

func TestCacheReturnsWhatWasPut(t *testing.T) {
	cache := NewCache(filepath.Join(t.TempDir(), "engines"))
	if entries, err := cache.List(); len(entries) > 0 || err != nil {
		t.Errorf("before the first plan: found %v, %v", entries, err)
	}
	put(t, cache, testKey(), "first")
	put(t, cache, testKey(), "second")
	plan, entry, err := cache.Get(testKey())
	if err != nil || string(plan) != "second" {
		t.Fatalf("expected the second plan, found %q, %v", plan, err)
	}
	if entry.Plan.Bytes != 6 || entry.Seconds != 61.5 || entry.For.Network != "unet" || !entry.At.Equal(time.Unix(1e9, 0)) {
		t.Errorf("the entry lost something: %+v", entry)
	}
	if entries, err := cache.List(); len(entries) != 1 || err != nil || entries[0] != entry {
		t.Errorf("list: expected the entry, found %v, %v", entries, err)
	}
}

func TestPlansServeTheirKeyOnly(t *testing.T) {
	cache := NewCache(t.TempDir())
	put(t, cache, testKey(), "plan")
	for name, change := range map[string]func(*Key){
		"graph":       func(k *Key) { k.Graph = strings.Repeat("cd", 32) },
		"conversion":  func(k *Key) { k.Conversion = "mixed/2" },
		"version":     func(k *Key) { k.TensorRT = "enterprise 10.4.0" },
		"flavor":      func(k *Key) { k.TensorRT = "rtx 10.3.0" },
		"GPU":         func(k *Key) { k.GPU = "Xavier" },
		"capability":  func(k *Key) { k.ComputeMinor = 6 },
		"Orin's size": func(k *Key) { k.Multiprocessors = 4 },
		"precision":   func(k *Key) { k.Precision = "fp32" },
		"batches":     func(k *Key) { k.Batches = "1" },
	} {
		t.Run(name, func(t *testing.T) {
			key := testKey()
			change(&key)
			_, _, err := cache.Get(key)
			var missing *MissingError
			if !errors.As(err, &missing) || missing.Err != nil || !strings.Contains(err.Error(), "gladd engines build") {
				t.Errorf("expected that it is missing and how to build it, found %v", err)
			}
		})
	}
}

func TestDamagedPlansAreNeverReturned(t *testing.T) {
	name := testKey().name()
	other := testKey()
	other.GPU = "another"
	for title, c := range map[string]struct {
		damage func(t *testing.T, dir string)
		want   string
	}{
		"flipped bit": {func(t *testing.T, dir string) { write(t, dir, name+planSuffix, "plaN") }, "it is damaged"},
		"cut off":     {func(t *testing.T, dir string) { write(t, dir, name+planSuffix, "pl") }, "it is damaged"},
		"plan gone": {func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, name+planSuffix)); err != nil {
				t.Fatal(err)
			}
		}, "no such file"},
		"entry is no JSON": {func(t *testing.T, dir string) { write(t, dir, name+entrySuffix, "{") }, "unexpected end of JSON"},
		"other schema":     {func(t *testing.T, dir string) { write(t, dir, name+entrySuffix, `{"schema":"gladd.engine/v9"}`) }, "another version of gladd"},
		"files of another key under this name": {func(t *testing.T, dir string) {
			for _, suffix := range []string{planSuffix, entrySuffix} {
				data, err := os.ReadFile(filepath.Join(dir, other.name()+suffix))
				if err != nil {
					t.Fatal(err)
				}
				write(t, dir, name+suffix, string(data))
			}
		}, "built for something else"},
	} {
		t.Run(title, func(t *testing.T) {
			cache := NewCache(t.TempDir())
			put(t, cache, testKey(), "plan")
			put(t, cache, other, "plan of another")
			c.damage(t, cache.Dir())
			plan, _, err := cache.Get(testKey())
			var missing *MissingError
			if plan != nil || !errors.As(err, &missing) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("expected %q, found %q, %v", c.want, plan, err)
			}
			put(t, cache, testKey(), "built again")
			if plan, _, err := cache.Get(testKey()); string(plan) != "built again" {
				t.Errorf("after a new build: found %q, %v", plan, err)
			}
		})
	}
}

func TestPruneKeepsWhatIsNamed(t *testing.T) {
	dir := t.TempDir()
	cache := NewCache(dir)
	other := testKey()
	other.TensorRT = "enterprise 8.6.1"
	put(t, cache, testKey(), "plan")
	put(t, cache, other, "old plan")
	for _, key := range []Key{testKey(), other} {
		if err := cache.PutTiming(key, []byte("times")); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir, other.name()+".plan.12.part", "half a plan")
	write(t, dir, strings.Repeat("0", 32)+".plan", "of no entry")
	for _, name := range []string{"README", "model.plan", "notes.json", "backup.part"} {
		write(t, dir, name, "the administrator's")
	}
	converting := filepath.Join(dir, "convert-unet.77.part")
	if err := os.Mkdir(converting, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, converting, "half.onnx.weights", "gigabytes")
	freed, err := cache.Prune(t.Context(), []Key{testKey()})
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(len("old plan") + len("times") + len("half a plan") + len("of no entry") + len("gigabytes")); freed <= want {
		t.Errorf("expected more than %d bytes freed (and the entry's), found %d", want, freed)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, file := range files {
		left = append(left, file.Name())
	}
	want := []string{"README", "model.plan", "notes.json", "backup.part", testKey().name() + planSuffix, testKey().name() + entrySuffix, timingName(testKey()), lockName}
	if len(left) != len(want) {
		t.Errorf("expected %v, found %v", want, left)
	}
	for _, name := range want {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := cache.Get(testKey()); err != nil {
		t.Error(err)
	}
}

func TestOneBuilderAtATime(t *testing.T) {
	cache := NewCache(t.TempDir())
	unlock, err := cache.Lock(t.Context(), func() { t.Error("nobody else builds") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := cache.Lock(ctx, cancel); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "another gladd builds") {
		t.Errorf("canceled while another builds: found %v", err)
	}
	waits := make(chan struct{})
	second := make(chan error)
	go func() {
		unlock, err := cache.Lock(t.Context(), func() { close(waits) })
		if err == nil {
			unlock()
		}
		second <- err
	}()
	<-waits
	unlock()
	if err := <-second; err != nil {
		t.Errorf("after the other builder: %v", err)
	}
}

func TestFolderThatCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := NewCache(file).Put(Entry{Key: testKey()}, []byte("plan"))
	if err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("expected an error that names %s, found %v", file, err)
	}
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
