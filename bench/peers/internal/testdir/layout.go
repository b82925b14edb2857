// Package testdir lays out the files that the measurements work on: once for a whole run, on a file system with a
// device behind it, removed at the end.
package testdir

import (
	"path/filepath"
	"strconv"
)

// Block is the size of one random read or write.
const Block = 4096

// The files and their sizes. The one for O_DIRECT is large enough that a device's own cache does not hold it whole;
// the others fit in the page cache of any machine that one benchmarks on.
const (
	CachedSize = 256 << 20
	DirectSize = 1 << 30
	WriteSize  = 256 << 20
)

// StatFiles is the number of files that the stat work walks through.
const StatFiles = 64

// Cached is the file for reads from the page cache and the source of the copy.
func Cached(dir string) string { return filepath.Join(dir, "cached.dat") }

// Direct is the file for O_DIRECT reads.
func Direct(dir string) string { return filepath.Join(dir, "direct.dat") }

// Write is the file for buffered writes.
func Write(dir string) string { return filepath.Join(dir, "write.dat") }

// CopyTarget is where a copy goes. It does not exist before.
func CopyTarget(dir string) string { return filepath.Join(dir, "copy.dat") }

// StatFile is the i-th file to stat.
func StatFile(dir string, i int) string {
	return filepath.Join(statDir(dir), strconv.Itoa(i%StatFiles))
}

func statDir(dir string) string { return filepath.Join(dir, "stat") }

// The tree to walk: directories in directories, and the files in those.
const (
	treeTops = 10
	treeDirs = 100 // in each
	treeEach = 100 // files in each of those

	TreeFiles = treeTops * treeDirs * treeEach
)

// Tree is the root of the tree to walk.
func Tree(dir string) string { return filepath.Join(dir, "tree") }

// SmallFiles is how many files of one block there are to be read whole.
const SmallFiles = 10000

// SmallFile is the i-th of them.
func SmallFile(dir string, i int) string {
	return filepath.Join(dir, "files", strconv.Itoa(i%100), strconv.Itoa(i))
}

// Stream is the file that streams are written to. They read that of O_DIRECT; both have its size.
func Stream(dir string) string { return filepath.Join(dir, "stream.dat") }

// Slow is where the slow file system is mounted.
func Slow(dir string) string { return filepath.Join(dir, "slow") }

// Small is where the directories for small files are made, see NewSmall.
func Small(dir string) string { return filepath.Join(dir, "small") }
