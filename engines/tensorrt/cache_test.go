package tensorrt

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
	name := testKey().name() + planSuffix
	other := testKey()
	other.GPU = "another"
	for title, c := range map[string]struct {
		damage func(file string) string
		want   string
	}{
		"flipped bit":      {func(file string) string { return strings.TrimSuffix(file, "plan") + "plaN" }, "it is damaged"},
		"cut off":          {func(file string) string { return strings.TrimSuffix(file, "an") }, "expected a plan of 4 bytes, found 2: it is damaged"},
		"too long":         {func(file string) string { return file + "!" }, "expected a plan of 4 bytes, found 5: it is damaged"},
		"empty":            {func(string) string { return "" }, "expected a line of JSON before the plan (EOF): it is damaged"},
		"no line":          {func(string) string { return strings.Repeat("x", 2*maxHeader) }, "expected a line of JSON"},
		"entry is no JSON": {func(string) string { return "{\nplan" }, "unexpected end of JSON"},
		"other schema":     {func(string) string { return `{"schema":"gladd.engine/v9"}` + "\nplan" }, "another version of gladd"},
		"a size of none":   {func(file string) string { return strings.Replace(file, `"bytes":4`, `"bytes":-4`, 1) }, "expected a plan of -4 bytes"},
	} {
		t.Run(title, func(t *testing.T) {
			cache := NewCache(t.TempDir())
			put(t, cache, testKey(), "plan")
			put(t, cache, other, "plan of another")
			write(t, cache.Dir(), name, c.damage(read(t, cache.Dir(), name)))
			checkDamaged(t, cache, c.want)
			put(t, cache, testKey(), "built again")
			if plan, _, err := cache.Get(testKey()); string(plan) != "built again" {
				t.Errorf("after a new build: found %q, %v", plan, err)
			}
		})
	}
	t.Run("another key's file under this name", func(t *testing.T) {
		cache := NewCache(t.TempDir())
		put(t, cache, other, "plan of another")
		write(t, cache.Dir(), name, read(t, cache.Dir(), other.name()+planSuffix))
		checkDamaged(t, cache, "built for something else")
	})
}

func checkDamaged(t *testing.T, cache *Cache, want string) {
	t.Helper()
	plan, _, err := cache.Get(testKey())
	var missing *MissingError
	if plan != nil || !errors.As(err, &missing) || !strings.Contains(err.Error(), want) {
		t.Errorf("expected %q, found %q, %v", want, plan, err)
	}
}

// Who reads while another puts a plan finds the old one or the new one, whole.
func TestReadersSeeWholePlans(t *testing.T) {
	cache := NewCache(t.TempDir())
	plans := []string{strings.Repeat("a", 1<<18), strings.Repeat("b", 1<<17)}
	put(t, cache, testKey(), plans[0])
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 100 {
			put(t, cache, testKey(), plans[i%2])
		}
	}()
	for reading := true; reading; {
		plan, _, err := cache.Get(testKey())
		if err != nil || !slices.Contains(plans, string(plan)) {
			t.Fatalf("expected one of the plans, found %.10q... of %d bytes, %v", plan, len(plan), err)
		}
		select {
		case <-done:
			reading = false
		default:
		}
	}
}

// A plan that was built in the place of a useless one is not dropped for it.
func TestDropLeavesWhatIsNewer(t *testing.T) {
	cache := NewCache(t.TempDir())
	put(t, cache, testKey(), "useless")
	_, useless, err := cache.Get(testKey())
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := cache.Lock(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := cache.Drop(ctx, useless); !errors.Is(err, context.Canceled) {
		t.Errorf("while another builds: expected to wait, found %v", err)
	}
	put(t, cache, testKey(), "built meanwhile")
	unlock()
	if err := cache.Drop(t.Context(), useless); err != nil {
		t.Error(err)
	}
	plan, newer, err := cache.Get(testKey())
	if string(plan) != "built meanwhile" {
		t.Errorf("expected the newer plan, found %q, %v", plan, err)
	}
	for range 2 {
		if err := cache.Drop(t.Context(), newer); err != nil {
			t.Error(err)
		}
	}
	var missing *MissingError
	if _, _, err := cache.Get(testKey()); !errors.As(err, &missing) || missing.Err != nil {
		t.Errorf("expected no plan, found %v", err)
	}
}

func TestPruneKeepsWhatIsNamed(t *testing.T) {
	dir := t.TempDir()
	cache := NewCache(dir)
	older, unused, spoiled := testKey(), testKey(), testKey()
	older.TensorRT = "enterprise 8.6.1"
	unused.Graph = strings.Repeat("cd", 32)
	spoiled.Batches = "4"
	for _, key := range []Key{testKey(), older, unused, spoiled} {
		put(t, cache, key, "plan")
	}
	for _, key := range []Key{testKey(), older} {
		if err := cache.PutTiming(key, []byte("times")); err != nil {
			t.Fatal(err)
		}
	}
	content := read(t, dir, spoiled.name()+planSuffix)
	write(t, dir, spoiled.name()+planSuffix, content[:len(content)-1]+"N")
	half, headless := "."+older.name()+".engine12", strings.Repeat("0", 32)+planSuffix
	write(t, dir, half, "half a plan")
	write(t, dir, headless, "no entry")
	theirs := []string{"README", "model.engine", "notes.json", "backup.part"}
	for _, name := range theirs {
		write(t, dir, name, "the administrator's")
	}
	const converting = "convert-unet.77.part"
	if err := os.Mkdir(filepath.Join(dir, converting), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, converting), "half.onnx.weights", "gigabytes")

	prune := func(version string, others int, removed map[string]string, left ...string) {
		t.Helper()
		pruned, err := cache.Prune(t.Context(), Pruning{Keep: []Key{testKey(), spoiled}, TensorRT: version})
		if err != nil || pruned.Others != others || pruned.Bytes() == 0 {
			t.Errorf("expected %d of other versions kept, found %+v, %v", others, pruned, err)
		}
		found := map[string]string{}
		for _, each := range pruned.Removed {
			found[each.Name] = each.What
		}
		if !maps.Equal(found, removed) {
			t.Errorf("expected removed\n%v, found\n%v", removed, found)
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, file := range files {
			names = append(names, file.Name())
		}
		left = slices.Sorted(slices.Values(slices.Concat(left, theirs, []string{testKey().name() + planSuffix, timingName(testKey()), lockName})))
		if slices.Sort(names); !slices.Equal(names, left) {
			t.Errorf("expected left\n%v, found\n%v", left, names)
		}
	}
	prune(testKey().TensorRT, 1, map[string]string{
		half: "left of a build that was cut off", converting: "left of a build that was cut off", headless: "damaged", spoiled.name() + planSuffix: "damaged",
		unused.name() + planSuffix: "unet of plate 1.0.0 for enterprise 10.3.0, Orin",
	}, older.name()+planSuffix, timingName(older))
	prune("", 0, map[string]string{older.name() + planSuffix: "unet of plate 1.0.0 for enterprise 8.6.1, Orin", timingName(older): "times of builds"})
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

// What root builds before the service does is where the service can write: tests run as
// root.
func TestFolderBelongsToWhomTheOneAroundItDoes(t *testing.T) {
	around := t.TempDir()
	const service = 64321
	if err := os.Chown(around, service, service); err != nil {
		t.Fatalf("%v (tests run as root)", err)
	}
	cache := NewCache(filepath.Join(around, "engines"))
	put(t, cache, testKey(), "plan")
	info, err := os.Stat(cache.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t); owner.Uid != service || owner.Gid != service {
		t.Errorf("expected the folder of user %d, found %d", service, owner.Uid)
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

// A folder of another user's, without a lock yet: what is wrong is the right to write.
func TestLockInAFolderOfAnotherUser(t *testing.T) {
	dir := t.TempDir()
	for _, folder := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cache := NewCache(dir)
	lock := func() error {
		runtime.LockOSThread() // whose rights to files are taken away
		defer runtime.UnlockOSThread()
		const somebody = 64321
		if _, err := unix.SetfsuidRetUid(somebody); err != nil {
			t.Fatalf("%v (tests run as root)", err)
		}
		defer unix.SetfsuidRetUid(0) //nolint:errcheck // as it was
		unlock, err := cache.Lock(t.Context(), nil)
		if err == nil {
			unlock()
		}
		return err
	}
	var failed *CacheError
	if err := lock(); !errors.As(err, &failed) || !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), filepath.Join(dir, lockName)) {
		t.Errorf("expected a CacheError, permission denied, found %v", err)
	}
	write(t, dir, lockName, "")
	if err := os.Chmod(filepath.Join(dir, lockName), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := lock(); err != nil {
		t.Errorf("with a lock of the other's: expected it locked, found %v", err)
	}
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
