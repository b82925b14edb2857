// Command pebblevfs runs pebble, the storage engine of CockroachDB, on uringo's files, checks all that it finds in the database, and
// says how long that took beside the same on package os.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"uringo/driver"
	"uringo/examples/pebblevfs/ringfs"
	"uringo/fs"
)

var ctx = context.Background()

func main() {
	batches := flag.Int("batches", 2000, "batches of 20 changes in each of three rounds")
	ring := flag.Bool("ring", false, "everything through the ring, rather than each operation by the route that is best for it")
	flag.Parse()
	if *ring {
		pin(fs.Ring)
	}
	if err := run(driver.Config{}, *batches); err != nil {
		log.Fatal(err)
	}
}

// pin has all operations on files take a route, and returns the one that they took.
func pin(r fs.Route) (old fs.Route) {
	for op := fs.OpRead; op <= fs.OpClose; op++ {
		old = fs.Pin(op, r)
	}
	return old
}

func run(cfg driver.Config, batches int) error {
	dir, err := os.MkdirTemp("", "pebblevfs")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d, err := driver.Open(cfg)
	if err != nil {
		return err
	}
	defer d.Close(ctx)

	ours := &workload{fs: ringfs.New(driver.NewContext(ctx, d)), dir: filepath.Join(dir, "uringo"), batches: batches, rng: rand.New(rand.NewPCG(1, 2))}
	plain := &workload{fs: vfs.Default, dir: filepath.Join(dir, "os"), batches: batches, rng: rand.New(rand.NewPCG(1, 2))}
	for name, w := range map[string]*workload{"uringo": ours, "os": plain} {
		start := time.Now()
		if err := w.run(); err != nil {
			return fmt.Errorf("on %s: %w", name, err)
		}
		fmt.Printf("%-7s %v, %d keys\n", name, time.Since(start).Round(time.Millisecond), len(w.model))
	}

	// What was written on one is the same on the other.
	ours.fs, plain.fs = plain.fs, ours.fs
	for _, w := range []*workload{ours, plain} {
		db, err := w.open(w.dir)
		if err != nil {
			return err
		}
		err = w.compare(db)
		if cerr := db.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("crosswise: %w", err)
		}
	}
	s := d.Stats()
	fmt.Printf("engine %v: %d operations in the ring, %d as plain calls of its pool, %d in place; all data as it should be\n",
		d.Engine(), s.Routes["ring"], s.Routes["call"], s.Routes["direct"]+s.Routes["inline"])
	return nil
}
