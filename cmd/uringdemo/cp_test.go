package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A cpCase is a command line that has to do what cp does with it.
type cpCase struct {
	name string
	args string // of both programs, cut at spaces; cp needs no others
	make func(y yard)
	root bool
	cp   string // instead of args, for cp
	code int    // instead of 0 where cp exits with 0, and 1 where it does not
	slow bool   // one way is enough
}

var cpCases = []cpCase{
	// Arguments.
	{name: "file to new name", args: "a b", make: func(y yard) { y.file("a", 5000) }},
	{name: "empty file", args: "a b", make: func(y yard) { y.file("a", 0) }},
	{name: "file over file", args: "a b", make: func(y yard) { y.file("a", 10); y.file("b", 300000) }},
	{name: "file over file, archive", args: "-a a b", make: func(y yard) { y.file("a", 10); y.file("b", 300000); y.chmod("b", 0600) }},
	{name: "file into directory", args: "a d", make: func(y yard) { y.file("a", 10); y.mkdir("d") }},
	{name: "file into directory with slash", args: "a d/", make: func(y yard) { y.file("a", 10); y.mkdir("d") }},
	{name: "several into directory", args: "a b/c d", make: func(y yard) { y.file("a", 10); y.file("b/c", 20); y.mkdir("d") }},
	{name: "several to nothing", args: "a b d", make: func(y yard) { y.file("a", 10); y.file("b", 20) }},
	{name: "several to file", args: "a b d", make: func(y yard) { y.file("a", 10); y.file("b", 20); y.file("d", 30) }},
	{name: "one of several is missing", args: "a no b d", make: func(y yard) { y.file("a", 10); y.file("b", 20); y.mkdir("d") }},
	{name: "missing source", args: "no b", make: func(y yard) {}},
	{name: "parent of target is missing", args: "a no/b", make: func(y yard) { y.file("a", 10) }},
	{name: "parent of target is a file", args: "a f/b", make: func(y yard) { y.file("a", 10); y.file("f", 20) }},
	{name: "file to new name with slash", args: "a b/", make: func(y yard) { y.file("a", 10) }},
	{name: "file with slash", args: "a/ b", make: func(y yard) { y.file("a", 10) }},
	{name: "file to file with slash", args: "a b/", make: func(y yard) { y.file("a", 10); y.file("b", 20) }},
	{name: "directory without -r", args: "d e", make: func(y yard) { y.file("d/a", 10) }},
	{name: "directory among files without -r", args: "d a e", make: func(y yard) { y.file("d/a", 10); y.file("a", 20); y.mkdir("e") }},
	{name: "directory to new name", args: "-r d e", make: smallTree},
	{name: "directory to new name with slash", args: "-r d e/", make: smallTree},
	{name: "directory with slash to new name", args: "-r d/ e", make: smallTree},
	{name: "directory into directory", args: "-r d e", make: func(y yard) { smallTree(y); y.mkdir("e") }},
	{name: "directory into itself by slash", args: "-r d/sub/ e", make: func(y yard) { smallTree(y); y.mkdir("e") }},
	{name: "content of a directory", args: "-r d/. e", make: func(y yard) { smallTree(y); y.mkdir("e") }},
	{name: "content of a directory to new name", args: "-a d/. e", make: smallTree},
	{name: "parent of a directory", args: "-r d/sub/.. e", make: func(y yard) { smallTree(y); y.mkdir("e") }},
	{name: "merge of directories", args: "-a d e", make: func(y yard) {
		smallTree(y)
		y.file("e/d/a", 1)
		y.file("e/d/sub/other", 2)
		y.chmod("e/d/sub", 0700)
	}},
	{name: "directory over file", args: "-r d e", make: func(y yard) { smallTree(y); y.file("e", 10) }},
	{name: "directory over file inside", args: "-a d e", make: func(y yard) { smallTree(y); y.file("e/d/sub", 10) }},
	{name: "file over directory", args: "a d", make: func(y yard) { y.file("a", 10); y.mkdir("d/a") }},
	{name: "two sources of one name", args: "a/x b/x d", make: func(y yard) { y.file("a/x", 10); y.file("b/x", 20); y.mkdir("d") }},
	{name: "the same source twice", args: "-a f d f d e", make: func(y yard) { y.file("f", 10); smallTree(y); y.mkdir("e") }},
	{name: "the same source by other names", args: "f ./f d/../f e", make: func(y yard) { y.file("f", 10); y.mkdir("d"); y.mkdir("e") }},
	{name: "the same source by other names, archive", args: "-a f ./f h ./h g s ./s e", make: func(y yard) {
		y.file("f", 10)
		y.file("h", 20)
		y.hardlink("h", "g")
		y.symlink("f", "s")
		y.mkdir("e")
	}},
	{name: "the same directory by other names, archive", args: "-a d ./d e/../d/ e", make: func(y yard) { smallTree(y); y.mkdir("e") }},
	{name: "the same directory by other names", args: "-r d/. d/sub/.. e", make: func(y yard) { smallTree(y); y.mkdir("e") }},
	{name: "hard links of one name", args: "a/x b/x d", make: func(y yard) { y.file("a/x", 10); y.mkdir("b"); y.hardlink("a/x", "b/x"); y.mkdir("d") }},
	{name: "two directories of one name", args: "-r a/x b/x d", make: func(y yard) {
		y.file("a/x/1", 10)
		y.file("a/x/2", 11)
		y.file("b/x/2", 20)
		y.file("b/x/3", 20)
		y.mkdir("d")
	}},
	{name: "a directory's content and a file of the same name", args: "-r a/. b/x d", make: func(y yard) {
		y.file("a/x", 3<<20)
		y.file("a/y", 10)
		y.file("b/x", 20)
		y.mkdir("d")
	}},
	{name: "a file and a directory's content of the same name", args: "-r b/x a/. d", make: func(y yard) {
		y.file("a/x", 20)
		y.file("b/x", 3<<20)
		y.mkdir("d")
	}},
	{name: "two files of one name, and a directory's content with it", args: "-r a/x b/. ./a/x c/x d", make: func(y yard) {
		y.file("a/x", 10)
		y.file("b/x", 20)
		y.file("c/x", 30)
		y.mkdir("d")
	}},
	{name: "the same directory twice", args: "-r d/. d/. e", make: func(y yard) { y.file("d/1", 1); y.mkdir("e") }},

	// The same file. Nothing may happen.
	{name: "file onto itself", args: "a a", make: func(y yard) { y.file("a", 10) }},
	{name: "file onto itself by another path", args: "a ./d/../a", make: func(y yard) { y.file("a", 10); y.mkdir("d") }},
	{name: "file onto its hard link", args: "a b", make: func(y yard) { y.file("a", 10); y.hardlink("a", "b") }},
	{name: "file onto a link to it", args: "a b", make: func(y yard) { y.file("a", 10); y.symlink("a", "b") }},
	{name: "link onto its target", args: "b a", make: func(y yard) { y.file("a", 10); y.symlink("a", "b") }},
	{name: "link as such onto its target", args: "-a b a", make: func(y yard) { y.file("a", 10); y.symlink("a", "b") }},
	{name: "directory onto itself", args: "-r d .", make: smallTree},
	{name: "tree with a link to its source", args: "-a d/. e", make: func(y yard) { y.file("d/a", 10); y.mkdir("e"); y.symlink("../d/a", "e/a") }},

	// Links.
	{name: "link is followed", args: "l b", make: func(y yard) { y.file("a", 10); y.symlink("a", "l") }},
	{name: "link is not followed", args: "-P l b", make: func(y yard) { y.file("a", 10); y.symlink("a", "l") }},
	{name: "link, archive", args: "-a l b", make: func(y yard) { y.file("a", 10); y.symlink("a", "l"); y.chown("l", own(12), own(13)) }},
	{name: "link with -H", args: "-rH l b", make: func(y yard) { smallTree(y); y.symlink("d", "l") }},
	{name: "link to a directory with slash", args: "-a l/ e", make: func(y yard) { smallTree(y); y.symlink("d", "l") }},
	{name: "link to a directory with slash into directory", args: "-a l/ e", make: func(y yard) { smallTree(y); y.symlink("d", "l"); y.mkdir("e") }},
	{name: "dangling link", args: "l b", make: func(y yard) { y.symlink("no", "l") }},
	{name: "dangling link, archive", args: "-a l b", make: func(y yard) { y.symlink("no", "l") }},
	{name: "loop", args: "l b", make: func(y yard) { y.symlink("l", "l") }},
	{name: "link over file", args: "-a l b", make: func(y yard) { y.symlink("no", "l"); y.file("b", 10) }},
	{name: "link over link", args: "-a l b", make: func(y yard) { y.symlink("no", "l"); y.symlink("a", "b"); y.file("a", 10) }},
	{name: "to a link to a file", args: "a l", make: func(y yard) { y.file("a", 10); y.file("d/b", 20); y.symlink("d/b", "l") }},
	{name: "to a link to a file, archive", args: "-a a l", make: func(y yard) { y.file("a", 10); y.file("b", 20); y.symlink("b", "l") }},
	{name: "to a dangling link", args: "a l", make: func(y yard) { y.file("a", 10); y.symlink("no", "l") }},
	{name: "to a loop", args: "a l", make: func(y yard) { y.file("a", 10); y.symlink("l", "l") }},
	{name: "over a loop", args: "-f a l", make: func(y yard) { y.file("a", 10); y.symlink("l", "l") }},
	{name: "to a dangling link, with force", args: "-f a l", make: func(y yard) { y.file("a", 10); y.symlink("no", "l") }},
	{name: "link over loop", args: "-a a l", make: func(y yard) { y.symlink("no", "a"); y.symlink("l", "l") }},
	{name: "to a loop with slash", args: "-a a l/", make: func(y yard) { y.symlink("no", "a"); y.symlink("l", "l") }},
	{name: "several to a loop", args: "a b l", make: func(y yard) { y.file("a", 10); y.file("b", 10); y.symlink("l", "l") }},
	{name: "to a link to a directory", args: "a l", make: func(y yard) { y.file("a", 10); y.mkdir("d"); y.symlink("d", "l") }},
	{name: "directory over a link to a directory", args: "-r d e", make: func(y yard) { smallTree(y); y.mkdir("e"); y.mkdir("x"); y.symlink("../x", "e/d") }},
	{name: "links in a tree", args: "-r d e", make: func(y yard) {
		smallTree(y)
		y.symlink("a", "d/to-file")
		y.symlink("sub", "d/to-dir")
		y.symlink("/nowhere/at/all", "d/dangling")
		y.symlink(strings.Repeat("x", 255)+"/"+strings.Repeat("y", 255), "d/long")
	}},
	{name: "hard links", args: "-a d e", make: hardLinks},
	{name: "hard links without -a", args: "-r d e", make: hardLinks},
	{name: "hard links between sources", args: "-a d f x e", make: func(y yard) { hardLinks(y); y.hardlink("d/a", "f"); y.hardlink("d/a", "x"); y.mkdir("e") }},
	{name: "hard links in sources that contain each other", args: "-a d/a d d/sub e", make: func(y yard) { hardLinks(y); y.mkdir("e") }},
	{name: "hard links again", args: "-a d/. e", make: func(y yard) { hardLinks(y); y.file("e/a", 1); y.hardlink("e/a", "e/b") }},

	// Attributes.
	{name: "modes", args: "-a d e", make: modes},
	{name: "modes without -a", args: "-r d e", make: modes},
	{name: "mode of an existing file", args: "a b", make: func(y yard) { y.file("a", 10); y.file("b", 10); y.chmod("b", 0640) }},
	{name: "set-user-ID without -a", args: "a b", make: func(y yard) { y.file("a", 10); y.chmod("a", 06755) }},
	{name: "owners", args: "-a d e", root: true, make: owners},
	{name: "owners without -a", args: "-r d e", root: true, make: owners},
	{name: "owner of an existing file", args: "a b", root: true, make: func(y yard) { y.file("a", 10); y.file("b", 10); y.chown("b", 7, 8) }},
	{name: "times", args: "-a d e", make: func(y yard) {
		smallTree(y)
		y.settle()
		y.mtime("d/a", -5, 7)                      // before 1970
		y.mtime("d/sub/b", 1<<33, 999_999_999)     // after 2038, and the last nanosecond
		y.mtime("d/sub/c", 1_700_000_000, 1)       // the first
		y.mtime("d/sub/none", 13_000_000_000, 500) // 2381, which 64 bits of nanoseconds do not reach
	}},
	{name: "attributes", args: "-a d e", make: func(y yard) {
		smallTree(y)
		y.xattr("d/a", "user.short", "x")
		y.xattr("d/a", "user.empty", "")
		y.xattr("d/a", "user.long", strings.Repeat("v", 2000))
		y.xattr("d/sub", "user.dir", "\x00binary\xff")
	}},
	{name: "attributes without -a", args: "-r d e", make: func(y yard) { smallTree(y); y.xattr("d/a", "user.short", "x") }},
	{name: "ACLs", args: "-a d e", make: func(y yard) {
		smallTree(y)
		y.xattr("d/a", "system.posix_acl_access", acl(77, 6, 4))
		y.xattr("d/sub", "system.posix_acl_access", acl(78, 7, 0))
		y.xattr("d/sub", "system.posix_acl_default", acl(79, 5, 1))
	}},
	{name: "ACL of an existing file", args: "a b", make: func(y yard) {
		y.file("a", 10)
		y.file("b", 20)
		y.xattr("b", "system.posix_acl_access", acl(77, 6, 0))
	}},
	{name: "attributes of an existing file", args: "a b", make: func(y yard) {
		y.file("a", 10)
		y.file("b", 20)
		y.xattr("a", "user.source", "x")
		y.xattr("b", "user.target", "y")
	}},
	{name: "the system's attributes of an existing file", args: "a b", root: true, make: func(y yard) {
		y.file("a", 10)
		y.file("b", 20)
		for _, name := range []string{"trusted.target", "security.target"} {
			if err := unix.Lsetxattr(y.path("b"), name, []byte("y"), 0); err != nil {
				y.Skipf("cannot set %s: %v", name, err)
			}
		}
	}},
	{name: "existing file without the default ACL of its directory", args: "a d", make: func(y yard) {
		y.file("a", 10)
		y.file("d/a", 20)
		y.chmod("d/a", 0660)
		y.xattr("d", "system.posix_acl_default", acl(79, 7, 0))
	}},
	{name: "default ACL of the target", args: "-r d e", make: func(y yard) {
		smallTree(y)
		y.mkdir("e")
		y.xattr("e", "system.posix_acl_default", acl(79, 5, 0))
	}},
	{name: "default ACL of the target, which stands in for the umask", args: "-r d e", make: func(y yard) {
		smallTree(y)
		y.chmod("d/a", 0777)
		y.mknod("d/p", unix.S_IFIFO|0600, 0, 0)
		y.chmod("d/p", 0666)
		y.mkdir("e")
		y.xattr("e", "system.posix_acl_default", acl(79, 7, 7))
	}},
	{name: "default ACL of the target, archive", args: "-a d e", make: func(y yard) {
		smallTree(y)
		y.mkdir("e")
		y.xattr("e", "system.posix_acl_default", acl(79, 5, 0))
	}},
	{name: "set-group-ID of the target", args: "-r d e", root: true, make: func(y yard) {
		smallTree(y)
		y.mkdir("e")
		y.chown("e", 5, 6)
		y.chmod("e", 02775)
	}},

	// Kinds.
	{name: "FIFO", args: "-a p q", make: func(y yard) { y.mknod("p", unix.S_IFIFO|0640, 0, 0) }},
	{name: "FIFO without -a", args: "-r p q", make: func(y yard) { y.mknod("p", unix.S_IFIFO|0666, 0, 0) }},
	{name: "special files", args: "-a d e", root: true, make: specials},
	{name: "special files without -a", args: "-r d e", root: true, make: specials},
	{name: "special file over file", args: "-a d/. e", make: func(y yard) { y.mkdir("d"); y.mknod("d/p", unix.S_IFIFO|0600, 0, 0); y.file("e/p", 10) }},

	// Flags.
	{name: "no clobber", args: "-n a b", make: func(y yard) { y.file("a", 10); y.file("b", 20) }},
	{name: "no clobber of itself", args: "-n a a", make: func(y yard) { y.file("a", 10) }},
	{name: "no clobber of a hard link", args: "-rn a d", make: func(y yard) { y.file("a", 10); y.mkdir("d"); y.hardlink("a", "d/a") }},
	{name: "no clobber of a directory", args: "-n a d", make: func(y yard) { y.file("a", 10); y.mkdir("d/a") }},
	{name: "no clobber of what was just made", args: "-n a/x b/x d", make: func(y yard) { y.file("a/x", 10); y.file("b/x", 20); y.mkdir("d") }},
	{name: "no clobber in a tree", args: "-an d e", make: func(y yard) { smallTree(y); y.file("e/d/a", 1); y.symlink("no", "e/d/sub") }, code: 1},
	{name: "no clobber and a link", args: "-n a l", make: func(y yard) { y.file("a", 10); y.file("b", 20); y.symlink("b", "l") }},
	{name: "not sparse", args: "a b", cp: "--sparse=never a b", make: func(y yard) { y.file("a", 70000) }},

	// Names and shapes.
	{name: "names", args: "-a d e", make: func(y yard) {
		for _, name := range []string{"with space", "with\nnewline", "-r", "--", "\xff\xfe", "*", "'\"\\", " ", "...", strings.Repeat("n", 255), "\u202etxt"} {
			y.file("d/"+name, 10)
			y.file("d/dir "+name[:min(len(name), 200)]+"/x", 10)
		}
	}},
	{name: "sizes", args: "-a d e", make: func(y yard) {
		for _, size := range []int{0, 1, 511, 4095, 4096, 4097, 131071, 131072, 131073, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5<<20 + 3} {
			y.file("d/"+itoa(size), size)
		}
	}},
	{name: "deep tree", args: "-a d e", make: func(y yard) { y.file("d"+strings.Repeat("/deep", 300)+"/leaf", 10) }},
	{name: "wide tree", args: "-a d e", slow: true, make: func(y yard) {
		for i := range 3000 {
			y.file("d/"+itoa(i), i%50)
		}
	}},
	{name: "bushy tree", args: "-a d e", make: func(y yard) {
		for i := range 200 {
			y.file("d/"+itoa(i%7)+"/"+itoa(i%31)+"/"+itoa(i), i)
		}
	}},
	{name: "empty directories", args: "-a d e", make: func(y yard) { y.mkdir("d/a/b/c"); y.mkdir("d/a/d") }},
}

func smallTree(y yard) {
	y.file("d/a", 1000)
	y.file("d/sub/b", 200000)
	y.file("d/sub/c", 0)
	y.mkdir("d/sub/none")
}

func hardLinks(y yard) {
	y.file("d/a", 1000)
	y.file("d/sub/other", 5)
	y.hardlink("d/a", "d/b")
	y.hardlink("d/a", "d/sub/c")
	y.symlink("a", "d/l")
	y.hardlink("d/l", "d/sub/l2")
	y.mknod("d/p", unix.S_IFIFO|0644, 0, 0)
	y.hardlink("d/p", "d/sub/p2")
}

func modes(y yard) {
	for _, mode := range []uint32{0, 0400, 0444, 0600, 0644, 0666, 0755, 0777, 01644, 02755, 04755, 06711, 07777} {
		if mode == 0 && os.Geteuid() != 0 {
			continue // which nobody else may read, the test neither
		}
		name := itoa(int(mode))
		y.file("d/"+name, 10)
		y.chmod("d/"+name, mode)
		if mode&0200 == 0 && os.Geteuid() != 0 {
			continue // in which nobody else may remove anything
		}
		y.file("d/in "+name+"/file", 10)
		y.chmod("d/in "+name, mode|0500)
	}
}

func owners(y yard) {
	smallTree(y)
	y.symlink("a", "d/l")
	y.chown("d", 1, 2)
	y.chown("d/a", 3, 4)
	y.chown("d/sub", 5, 6)
	y.chown("d/l", 7, 8)
	y.chown("d/sub/b", 1000, 1000)
	y.chmod("d/sub/b", 06755) // after chown, which takes it away
}

func specials(y yard) {
	y.mkdir("d")
	y.mknod("d/fifo", unix.S_IFIFO|0642, 0, 0)
	y.mknod("d/socket", unix.S_IFSOCK|0755, 0, 0)
	y.mknod("d/char", unix.S_IFCHR|0666, 1, 3)
	y.mknod("d/block", unix.S_IFBLK|0660, 240, 5)
	y.chown("d/char", 9, 10)
}

// own is an owner that we may give to a file.
func own(id int) int {
	if os.Geteuid() != 0 {
		return -1
	}
	return id
}

// TestAsCp runs every case with cp and with this program and compares all that is there afterwards, the sources too.
func TestAsCp(t *testing.T) {
	base := t.TempDir()
	if fast, err := os.MkdirTemp("/dev/shm", "uringdemo"); err == nil { // a file system with all that is needed, and no disk
		t.Cleanup(func() { os.RemoveAll(fast) })
		base = fast
	}
	layOut := func(t *testing.T, c cpCase) yard {
		dir, err := os.MkdirTemp(base, "")
		must(t, err)
		y := yard{t, dir}
		c.make(y)
		if c.name != "times" {
			y.settle()
		}
		return y
	}
	for i, c := range cpCases {
		t.Run(c.name, func(t *testing.T) {
			if c.root {
				needRoot(t)
			}
			args := c.args
			if c.cp != "" {
				args = c.cp
			}
			times := strings.HasPrefix(args, "-a")
			y := layOut(t, c)
			cmd := exec.Command("cp", strings.Fields(args)...)
			cmd.Dir = y.dir
			message, err := cmd.CombinedOutput()
			want := snapshot(t, y.dir, times)
			code := c.code
			if err != nil {
				code = 1
			}
			must(t, os.RemoveAll(y.dir))

			all := ways()
			switch {
			case c.slow:
				all = all[2:3]
			case raceEnabled || testing.Short(): // by turns
				all = []way{all[i%len(all)], all[(i+5)%len(all)]}
			}
			for _, w := range all {
				t.Run(w.String(), func(t *testing.T) {
					y := layOut(t, c)
					t.Chdir(y.dir)
					got := w.run(t, strings.Fields(c.args)...)
					sameTree(t, snapshot(t, y.dir, times), want)
					if got.code != code || t.Failed() {
						t.Errorf("exit code %d, want %d\n%s\ncp said: %s", got.code, code, got.stderr, message)
					}
					if (got.stderr != "") != (code != 0 || len(message) > 0) {
						t.Errorf("exit code %d and on stderr: %q\ncp said: %s", code, got.stderr, message)
					}
					t.Chdir(filepath.Dir(base))
					must(t, os.RemoveAll(y.dir))
				})
			}
		})
	}
}
