// Package sharedlib says why a shared library cannot be loaded, where the loader does not:
// to it a file for another processor is one that does not exist.
package sharedlib

import (
	"debug/elf"
	"errors"
	"fmt"
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
	if file, err := elf.Open(path); err == nil {
		found := file.Machine
		file.Close() //nolint:errcheck // it was only read
		if want, known := here[runtime.GOARCH]; known && found != want {
			return fmt.Errorf("is for %s; this machine is %s: install the library for %s", name(found), name(want), name(want))
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
