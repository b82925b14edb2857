// Package realworld has no code but tests: programs that everybody knows, PostgreSQL, Redis, nginx and curl, at the other end of our
// connections. It is a module of its own, for the clients that it needs. The command run installs the programs and runs the tests.
package realworld
