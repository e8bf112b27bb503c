package main

import (
	"bytes"
	"io"
	"os"
	"slices"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/uki"
)

// maxText is the most bytes of a text that is measured, which package tpm tells differences in.
const maxText = 1 << 16

// textSections are those sections of a UKI that hold texts.
var textSections = []string{".cmdline", ".osrel", ".uname", ".sbat", ".profile"}

// readContents reads texts that may have been measured: files, and of a UKI its sections. What a
// BOOT.json names is among them.
func readContents(c *cli.Call, files []string, expected string) (texts [][]byte, err error) {
	raw, err := os.ReadFile(expected)
	if err != nil {
		return nil, err
	}
	if isJSON(raw) {
		boots, err := readBoots(expected)
		if err != nil {
			return nil, err
		}
		for _, b := range boots {
			files = append(slices.Clip(files), b.UKI)
			if b.LoaderConf != "" {
				files = append(files, b.LoaderConf)
			}
		}
	}
	for _, name := range files {
		more, err := readTexts(c, name)
		if err != nil {
			return nil, err
		}
		texts = append(texts, more...)
	}
	return texts, nil
}

// readTexts reads one file, which may be a UKI. A file of /proc tells no size.
func readTexts(c *cli.Call, name string) ([][]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err != nil || !bytes.HasPrefix(text, []byte("MZ")) {
		return [][]byte{text}, err
	}
	src, err := c.Open(name)
	if err != nil {
		return nil, err
	}
	image, err := uki.Open(src)
	if err != nil {
		return nil, err
	}
	var texts [][]byte
	for i, s := range image.Sections() {
		if !slices.Contains(textSections, s.Name) {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(image.SectionData(i), maxText+1))
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}

func isJSON(raw []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(raw), []byte{'{'}) }
