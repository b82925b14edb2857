//go:build race

package main

// raceEnabled: everything takes several times as long, so tests with many repetitions do fewer of them.
const raceEnabled = true
