package main

import (
	"testing"

	"uringo/driver"
	"uringo/fs"
)

// TestWorkload runs on both engines, by the routes that are best and by the ring alone.
func TestWorkload(t *testing.T) {
	for _, engine := range []driver.Engine{driver.Uring, driver.Portable} {
		for _, route := range []fs.Route{fs.Auto, fs.Ring} {
			t.Run(engine.String()+"/"+route.String(), func(t *testing.T) {
				defer pin(pin(route))
				if err := run(driver.Config{Engine: engine}, 150); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
