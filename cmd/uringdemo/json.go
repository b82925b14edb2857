package main

import (
	"encoding/base64"
	"encoding/json"
	"time"
	"unicode/utf8"

	"uringo/cmd/uringdemo/internal/copier"
	"uringo/driver"
)

// summary is what --json prints, once, at the end.
type summary struct {
	Exit        int       `json:"exit"`
	Engine      string    `json:"engine"`
	Executor    string    `json:"executor"`
	Seconds     float64   `json:"seconds"`
	Files       int64     `json:"files"`
	Directories int64     `json:"directories"`
	Symlinks    int64     `json:"symlinks"`
	HardLinks   int64     `json:"hard_links"`
	Specials    int64     `json:"specials"`
	Skipped     int64     `json:"skipped"`
	Verified    int64     `json:"verified"`
	Bytes       int64     `json:"bytes"`
	Interrupted bool      `json:"interrupted"`
	Failures    []problem `json:"failures"`
	Warnings    []problem `json:"warnings"`
	Notes       []problem `json:"notes"`
}

type problem struct {
	Path  string `json:"path"`
	Bytes string `json:"path_base64,omitempty"` // if the path is no UTF-8, as JSON strings have to be
	Why   string `json:"why"`
}

func problems(in []copier.Problem) []problem {
	out := make([]problem, len(in)) // not nil: a list in JSON too
	for i, p := range in {
		out[i] = problem{Path: p.Path, Why: p.Why}
		if !utf8.ValidString(p.Path) {
			out[i].Bytes = base64.StdEncoding.EncodeToString([]byte(p.Path))
		}
	}
	return out
}

func (o *output) summary(opts *options, r *copier.Report, engine driver.Engine, took time.Duration, code int) {
	text, err := json.Marshal(summary{
		Exit: code, Engine: engine.String(), Executor: opts.executor.String(), Seconds: took.Seconds(),
		Files: r.Files, Directories: r.Directories, Symlinks: r.Symlinks, HardLinks: r.HardLinks, Specials: r.Specials,
		Skipped: r.Skipped, Verified: r.Verified, Bytes: r.Bytes, Interrupted: r.Interrupted,
		Failures: problems(r.Failures), Warnings: problems(r.Warnings), Notes: problems(r.Notes),
	})
	if err != nil {
		o.complain("", err.Error())
		return
	}
	o.say(o.stdout, string(text))
}
