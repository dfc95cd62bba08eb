// Command nearside is an authoritative DNS server that answers with the nearest
// healthy data center.
package main

import (
	"context"
	"os"
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }
