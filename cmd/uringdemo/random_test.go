package main

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/internal/testenv"
)

// TestRandomAsCp lays out random trees, at the target too, and compares what cp and this program make of random arguments. What they make
// differently on purpose does not come up: targets that are links or have several names, which cp writes through.
func TestRandomAsCp(t *testing.T) {
	seed, cases := testenv.Seed(t, rand.Uint64()), 60
	if raceEnabled || testing.Short() {
		cases = 20
	}
	base, all := shm(t), ways()
	for i := range cases {
		layOut := func() (*forest, []string) {
			dir, err := os.MkdirTemp(base, "")
			must(t, err)
			f := &forest{yard: yard{t, dir}, Rand: rand.New(rand.NewPCG(seed, uint64(i)))}
			return f, f.plant()
		}
		f, args := layOut()
		cmd := exec.CommandContext(t.Context(), "cp", args...)
		cmd.Dir = f.dir
		message, failed := cmd.CombinedOutput()
		want := f.result()
		must(t, os.RemoveAll(f.dir))

		w := all[i%len(all)]
		t.Run(itoa(i)+"/"+w.String(), func(t *testing.T) {
			f, _ := layOut()
			t.Chdir(f.dir)
			got := w.run(t, append([]string{"--fsync=false"}, args...)...)
			sameTree(t, f.result(), want)
			if (got.code != exitOK) != (failed != nil) || t.Failed() {
				t.Errorf("%q: exit code %d\n%s\ncp said: %v\n%s", args, got.code, got.stderr, failed, message)
			}
			t.Chdir("/")
			must(t, os.RemoveAll(f.dir))
		})
	}
}

// A forest is a yard that grows by chance.
type forest struct {
	yard
	*rand.Rand
	args    []string
	alone   bool     // no source has the names of another one: cp writes into what the first one left, with its special bits, names and attributes
	existed bool     // the directory that is the target
	files   []string // which can have further names
	later   []func() // what would hinder, or be lost by, what else is made
}

// The first letter of a name says what it is: where sources merge, only x is now a file and now a directory.
var forestNames = []string{"f", "f\n", "f\xff", "f" + strings.Repeat("n", 254), "h", "h ", "l", "l2", "p", "s", "d", "d-", "d\xc3", "x"}

// plant makes sources and a target, and returns the arguments.
func (f *forest) plant() []string {
	f.args = []string{[]string{"-a", "-a", "-r", "--"}[f.IntN(4)]}
	f.alone = f.IntN(2) == 0
	dirs := []string{"one", "two"}
	if f.alone {
		dirs = dirs[:1]
	}
	for _, dir := range dirs {
		f.mkdir(dir)
		for range 1 + f.IntN(2) {
			name := dir + "/" + f.pick(forestNames)
			if f.grow(name, 3) {
				f.args = append(f.args, f.spell(name))
			}
		}
	}
	if f.IntN(20) == 0 {
		f.args = append(f.args, "missing")
	}
	target := "t"
	if f.existed = f.IntN(5) > 0; f.existed {
		f.mkdir("t")
		for _, name := range f.args[1:] {
			f.remember(strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/"), "t/"+name[strings.LastIndex(strings.TrimRight(name, "/."), "/")+1:])
		}
		target = f.pick([]string{"t", "t/", "./t/.", "t/d", "t/new"})
	}
	f.settle()
	for _, do := range f.later {
		do()
	}
	return append(f.args, target)
}

// result describes what is there in the end.
func (f *forest) result() map[string]string {
	if f.existed {
		f.mtime("t", 0, 0) // the time is not for the copy to keep, and not to set
	}
	return snapshot(f.TB.(*testing.T), f.dir, f.args[0] == "-a")
}

func (f *forest) pick(from []string) string { return from[f.IntN(len(from))] }

func (f *forest) special() bool { return f.args[0] != "--" } // without -r, cp would wait for somebody to write to a FIFO

// spell is one of the ways to name a source.
func (f *forest) spell(name string) string {
	fi, err := os.Lstat(f.path(name))
	must(f, err)
	switch f.IntN(8) {
	case 0:
		return "./" + name
	case 1:
		if fi.Mode().Type() != os.ModeSymlink { // it could lead to another source
			return name + "/"
		}
	case 2:
		if fi.IsDir() && !f.alone {
			return name + "/."
		}
	}
	return name
}

// grow makes what the name says, if there is nothing yet.
func (f *forest) grow(name string, depth int) bool {
	if _, err := os.Lstat(f.path(name)); err == nil {
		return false
	}
	var special []uint32
	if f.alone {
		special = []uint32{01777, 02755, 04755}
	}
	switch kind := name[strings.LastIndex(name, "/")+1]; {
	case kind == 'd' || kind == 'x' && f.IntN(2) == 0:
		f.mkdir(name)
		for range f.IntN(6) {
			if depth > 0 {
				f.grow(name+"/"+f.pick(forestNames), depth-1)
			}
		}
		f.mark(name)
		f.dress(name, append(special, 0755, 0700, 0777)...)
	case kind == 'l':
		f.symlink(f.pick([]string{"f", "../f", "d", ".", "nowhere", "/nowhere/at/all", strings.Repeat("x", 200) + "/" + strings.Repeat("y", 200)}), name)
	case kind == 'p' && f.special():
		f.mknod(name, unix.S_IFIFO|0600, 0, 0)
		f.dress(name, 0644, 0600, 0666)
	case kind == 's' && f.special():
		f.mknod(name, unix.S_IFSOCK|0600, 0, 0)
		f.dress(name, 0755, 0600)
	case kind == 'h' && len(f.files) > 0:
		f.hardlink(f.pick(f.files), name)
	default:
		f.content(name)
		f.mark(name)
		f.dress(name, append(special, 0644, 0600, 0755, 0666)...)
		if f.alone {
			f.files = append(f.files, name)
		}
	}
	return true
}

// content makes a file, with holes or without.
func (f *forest) content(name string) {
	size := f.pick([]string{"", "x", strings.Repeat("x", 5000), strings.Repeat("y", 200_000)})
	f.file(name, len(size))
	if f.IntN(3) > 0 {
		return
	}
	file, err := os.OpenFile(f.path(name), os.O_WRONLY, 0)
	must(f, err)
	for range f.IntN(4) {
		_, err := file.WriteAt([]byte("island"), f.Int64N(2<<20))
		must(f, err)
	}
	must(f, file.Truncate(f.Int64N(2<<20)))
	must(f, file.Close())
}

// mark gives a file or directory an attribute, perhaps.
func (f *forest) mark(name string) {
	if f.alone && f.IntN(4) == 0 {
		f.xattr(name, "user.a", strings.Repeat("v", f.IntN(900)))
	}
}

// dress gives a name the rest of what it has.
func (f *forest) dress(name string, modes ...uint32) {
	mode, owner, group := modes[f.IntN(len(modes))], own(f.IntN(9)), own(f.IntN(9))
	sec, nsec := f.Int64N(1<<33)-1<<32, f.Int64N(1e9)
	f.later = append(f.later, func() {
		f.chown(name, owner, group)
		f.chmod(name, mode)
		if mode&1 == 0 {
			f.mtime(name, sec, nsec)
		}
	})
}

// remember puts a part of a source where its copy will be.
func (f *forest) remember(name, at string) {
	fi, err := os.Lstat(f.path(name))
	if err != nil || f.IntN(3) == 0 {
		return
	}
	if _, err := os.Lstat(f.path(at)); err == nil {
		return
	}
	switch {
	case fi.IsDir() && f.IntN(8) > 0:
		f.mkdir(at)
		f.dress(at, 0755, 0700, 0777)
		names, err := os.ReadDir(f.path(name))
		must(f, err)
		for _, n := range names {
			f.remember(name+"/"+n.Name(), at+"/"+n.Name())
		}
	case fi.Mode().IsRegular() || f.IntN(8) == 0:
		f.content(at)
		f.dress(at, 0644, 0600, 0755, 0666)
	}
}
