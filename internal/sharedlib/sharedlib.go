// Package sharedlib says why a shared library cannot be loaded, where the loader does not:
// to it a file for another processor is one that does not exist.
package sharedlib

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
)

// processors are those that gladd is built for, and others that a file may be for, as they
// are called by people.
var processors = map[elf.Machine]string{
	elf.EM_X86_64: "x86-64", elf.EM_AARCH64: "aarch64", elf.EM_386: "x86, 32 bits", elf.EM_ARM: "arm, 32 bits",
	elf.EM_PPC64: "ppc64", elf.EM_RISCV: "riscv",
}

var here = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// Explain returns why a library cannot be loaded: what is wrong with its file, where that
// can be seen, or else what the loader said, without the path that it begins with. A name
// without a slash is the loader's to look for.
func Explain(path, loader string) error {
	if !strings.ContainsRune(path, '/') {
		return errors.New(loader)
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return errors.New("is a folder, expected the library's file in it")
	}
	if found, is := machineOf(path); is {
		if want, known := here[runtime.GOARCH]; known && found != want {
			return fmt.Errorf("is for %s; this machine is %s", name(found), name(want))
		}
	}
	return errors.New(strings.TrimPrefix(loader, path+": "))
}

func name(machine elf.Machine) string {
	if known, is := processors[machine]; is {
		return known
	}
	return machine.String()
}

// machineOf reads only the first bytes, which a file that was cut short has, too.
func machineOf(path string) (machine elf.Machine, is bool) {
	file, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer file.Close()
	const machineAt = elf.EI_NIDENT + 2 // after the kind of file
	raw := make([]byte, machineAt+2)
	if _, err := io.ReadFull(file, raw); err != nil || string(raw[:len(elf.ELFMAG)]) != elf.ELFMAG {
		return 0, false
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(raw[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	return elf.Machine(order.Uint16(raw[machineAt:])), true
}
