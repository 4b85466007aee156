package sharedlib

import (
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestExplain(t *testing.T) {
	dir := t.TempDir()
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skip(err)
	}
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// machineAt is where an ELF file of this machine says what it is for.
	const machineAt = 18
	of := func(machine elf.Machine) []byte {
		data := append([]byte(nil), program[:64]...)
		binary.LittleEndian.PutUint16(data[machineAt:], uint16(machine))
		return data
	}
	other, otherName, hereName := elf.EM_AARCH64, "aarch64", "x86-64"
	if runtime.GOARCH == "arm64" {
		other, otherName, hereName = elf.EM_X86_64, "x86-64", "aarch64"
	}
	absent := filepath.Join(dir, "absent.so")
	text := file("text.so", []byte("no library"))
	bigEndian := of(elf.EM_S390)
	bigEndian[elf.EI_DATA], bigEndian[machineAt], bigEndian[machineAt+1] = byte(elf.ELFDATA2MSB), 0, byte(elf.EM_S390)
	own := file("own.so", of(here[runtime.GOARCH]))
	for name, test := range map[string]struct{ path, loader, want string }{
		"absent":            {absent, absent + ": cannot open shared object file: No such file or directory", "cannot open shared object file: No such file or directory"},
		"another processor": {file("other.so", of(other)), "x: cannot open shared object file: No such file or directory", "is for " + otherName + "; this machine is " + hereName},
		"an unusual one":    {file("s390.so", bigEndian), "x", "is for EM_S390; this machine is " + hereName},
		"a folder":          {dir, dir + ": cannot read file data: Is a directory", "is a folder, expected the library's file in it"},
		"no library":        {text, text + ": file too short", "file too short"},
		"a library it needs": {own, "libcudart.so.12: cannot open shared object file: No such file or directory",
			"libcudart.so.12: cannot open shared object file: No such file or directory"},
		"a bare name": {"libnvinfer.so.10", "libnvinfer.so.10: cannot open", "libnvinfer.so.10: cannot open"},
	} {
		t.Run(name, func(t *testing.T) {
			if found := Explain(test.path, test.loader); found.Error() != test.want {
				t.Errorf("want  %s\nfound %v", test.want, found)
			}
		})
	}
}
