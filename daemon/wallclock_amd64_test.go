package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// wallClockFile names a file that the wall clock of gladd, run as a program by a
// test, follows: eight bytes, the seconds that it is ahead of the system's. The
// system's clock itself is not the test's to set.
const wallClockFile = "GLADD_TEST_WALL_CLOCK"

func init() {
	path := os.Getenv(wallClockFile)
	if path == "" || os.Getenv(asProgram) == "" {
		return
	}
	if err := followWallClock(path); err != nil {
		fmt.Fprintln(os.Stderr, "wall clock of the test:", err)
		os.Exit(100)
	}
}

// wallClock is the clock of programs that follow a file.
type wallClock struct {
	path  string
	ahead *atomic.Int64
}

func newWallClock(path string) (clock wallClock, err error) {
	if err := os.WriteFile(path, make([]byte, 8), 0o600); err != nil {
		return clock, err
	}
	ahead, err := mapClock(path)
	return wallClock{path, ahead}, err
}

func mapClock(path string) (*atomic.Int64, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	memory, err := unix.Mmap(int(file.Fd()), 0, 8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return (*atomic.Int64)(unsafe.Pointer(&memory[0])), nil
}

// set sets it ahead of the system's clock, by whole seconds.
func (c wallClock) set(seconds int64) { c.ahead.Store(seconds) }

// followWallClock changes clock_gettime in this process's own copy of the vDSO,
// the kernel's code that Go and the C library ask for the time (vdso(7)): it asks
// the kernel by a system call and adds to the wall clock. Other clocks, the
// monotonic one among them, stay as they are.
func followWallClock(path string) error {
	ahead, err := mapClock(path)
	if err != nil {
		return err
	}
	memory, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer memory.Close()
	begin, vdso, err := readVDSO(memory)
	if err != nil {
		return fmt.Errorf("vDSO: %w", err)
	}
	image, err := elf.NewFile(bytes.NewReader(vdso))
	if err != nil {
		return fmt.Errorf("vDSO: %w", err)
	}
	symbols, err := image.DynamicSymbols()
	if err != nil {
		return fmt.Errorf("vDSO: %w", err)
	}
	at := slices.IndexFunc(symbols, func(symbol elf.Symbol) bool { return symbol.Name == "__vdso_clock_gettime" })
	if at < 0 {
		return errors.New("vDSO: no __vdso_clock_gettime")
	}
	code := []byte{
		0xb8, 0xe4, 0x00, 0x00, 0x00, // mov eax, 228 (clock_gettime)
		0x0f, 0x05, //                   syscall
		0x09, 0xc7, //                   or edi, eax: CLOCK_REALTIME is 0, success too
		0x75, 0x10, //                   jne end
		0x48, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0, // mov rcx, the address of ahead
		0x48, 0x8b, 0x09, //             mov rcx, [rcx]
		0x48, 0x01, 0x0e, //             add [rsi], rcx
		0xc3, //                         end: ret
	}
	binary.LittleEndian.PutUint64(code[13:], uint64(uintptr(unsafe.Pointer(ahead))))
	if _, err := memory.WriteAt(code, begin+int64(symbols[at].Value)); err != nil {
		return fmt.Errorf("vDSO: this kernel does not let it be changed: %w", err)
	}
	return nil
}

// readVDSO returns the address of the vDSO and what is there.
func readVDSO(memory *os.File) (begin int64, vdso []byte, err error) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return 0, nil, err
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.HasSuffix(line, "[vdso]\n") {
			continue
		}
		var end int64
		if _, err := fmt.Sscanf(line, "%x-%x", &begin, &end); err != nil {
			return 0, nil, err
		}
		vdso = make([]byte, end-begin)
		_, err := memory.ReadAt(vdso, begin)
		return begin, vdso, err
	}
	return 0, nil, errors.New("this process has none")
}
