package main

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// workload is what is done to a database, with a model of what should be in it.
type workload struct {
	fs      vfs.FS
	dir     string
	batches int
	rng     *rand.Rand
	model   map[string]string
}

// run writes, flushes, compacts, checkpoints, closes and opens again, and compares with the model at every step.
func (w *workload) run() error {
	w.model = make(map[string]string)
	for round := range 3 {
		db, err := w.open(w.dir)
		if err != nil {
			return fmt.Errorf("open, round %d: %w", round, err)
		}
		err = w.round(db, round)
		if cerr := db.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return nil
}

func (w *workload) open(dir string) (*pebble.DB, error) {
	return pebble.Open(dir, &pebble.Options{
		FS:           w.fs,
		MemTableSize: 1 << 20, // small, so that a little data makes many tables
		Logger:       quiet{},
	})
}

func (w *workload) round(db *pebble.DB, round int) error {
	if err := w.compare(db); err != nil {
		return fmt.Errorf("after opening: %w", err)
	}
	for i := range w.batches {
		if err := w.write(db, i%8 == 0); err != nil {
			return err
		}
		if i%64 == 63 {
			if err := w.read(db); err != nil {
				return err
			}
		}
	}
	if err := db.Flush(); err != nil {
		return err
	}
	if err := w.compare(db); err != nil {
		return fmt.Errorf("after a flush: %w", err)
	}
	if err := db.Compact(ctx, []byte("k"), []byte("l"), true); err != nil {
		return err
	}
	if err := w.compare(db); err != nil {
		return fmt.Errorf("after a compaction: %w", err)
	}
	copied := filepath.Join(w.dir, fmt.Sprintf("checkpoint-%d", round))
	if err := db.Checkpoint(copied); err != nil {
		return err
	}
	other, err := w.open(copied)
	if err != nil {
		return err
	}
	err = w.compare(other)
	if cerr := other.Close(); err == nil {
		err = cerr
	}
	return err
}

// write commits a batch of random changes, to stable storage or not.
func (w *workload) write(db *pebble.DB, sync bool) error {
	b := db.NewBatch()
	for range 20 {
		key := fmt.Sprintf("k%06d", w.rng.IntN(20_000))
		if w.rng.IntN(5) == 0 {
			delete(w.model, key)
			if err := b.Delete([]byte(key), nil); err != nil {
				return err
			}
			continue
		}
		value := bytes.Repeat(fmt.Append(nil, w.rng.Uint64()), 1+w.rng.IntN(40))
		w.model[key] = string(value)
		if err := b.Set([]byte(key), value, nil); err != nil {
			return err
		}
	}
	return b.Commit(&pebble.WriteOptions{Sync: sync})
}

// read looks keys up from several goroutines at once.
func (w *workload) read(db *pebble.DB) error {
	keys := slices.Collect(maps.Keys(w.model))[:min(100, len(w.model))]
	errs := make([]error, 4)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for _, key := range keys {
				value, closer, err := db.Get([]byte(key))
				if err == nil {
					if string(value) != w.model[key] {
						err = fmt.Errorf("%s has the value %.20q, want %.20q", key, value, w.model[key])
					}
					closer.Close()
				}
				if err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// compare goes through the whole database.
func (w *workload) compare(db *pebble.DB) error {
	it, err := db.NewIter(nil)
	if err != nil {
		return err
	}
	defer it.Close()
	n := 0
	for it.First(); it.Valid(); it.Next() {
		if want, ok := w.model[string(it.Key())]; !ok || want != string(it.Value()) {
			return fmt.Errorf("%s has the value %.20q, want %.20q", it.Key(), it.Value(), want)
		}
		n++
	}
	if err := it.Error(); err != nil {
		return err
	}
	if n != len(w.model) {
		return fmt.Errorf("%d keys, want %d", n, len(w.model))
	}
	return nil
}

type quiet struct{}

func (quiet) Infof(string, ...any)              {}
func (quiet) Errorf(format string, args ...any) { fmt.Printf("pebble: "+format+"\n", args...) }
func (quiet) Fatalf(format string, args ...any) { panic(fmt.Sprintf("pebble: "+format, args...)) }
