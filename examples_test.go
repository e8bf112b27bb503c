package osmith_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// withoutPackageExample are the packages that have no package Example yet. The list only shrinks.
var withoutPackageExample = []string{
	"signing", "tpm/sealing", "uki",
}

// notPlayable are the Examples that use what their file does not show, such as test kits. The list
// only shrinks: pkg.go.dev shows an Example whole, and lets readers run it, if it is alone in its
// file or refers to nothing but imports.
var notPlayable = map[string][]string{
	"bootloader": {
		"CopyVariables", "ParseVariableImage", "ReadVariable",
	},
	"bootloader/slots": {
		"NewRAUCUBoot", "ParseFWU", "ParseUBootEnvironment", "UBootEnvironment_Set",
	},
	"partition": {
		"ParseImagePolicy", "PolicyDesignators", "Repair", "Table_Findings", "Table_PlanWrite",
	},
	"signing/authenticode": {
		"", "Attach", "Prepare", "Prepared_JoinAttributes", "Remove",
		"RemoveAll", "Signatures", "StreamSigner",
	},
	"signing/cosign": {
		"Attest", "Content", "CopySignatures", "ParseRules", "Prepare",
		"Sign",
	},
	"signing/secureboot": {
		"Apply", "ChooseUpdates", "EvaluateSet", "Hierarchy_Enroll", "PlanRotation",
		"ReadShim",
	},
	"tpm": {
		"Alternatives_Components", "Boot", "Boot_NVPCRs", "Causes", "CompareBoots",
		"Log_WithContents", "ParsePrediction", "PhasesAlone", "PredictAll", "Shim",
		"Userspace", "UserspaceLog_NVPCRs", "UserspaceLog_Until", "Word",
	},
	"uki": {
		"Assembled_WriteStream", "DeviceTreeCompatible", "File_AssumeStub", "File_Check", "File_Choose",
		"File_Edit", "File_Handover", "File_NewMeasurer", "Image_MeasureVariants", "Image_profiles",
		"ProfileOf",
	},
}

// Every public package has a package Example, and every Example can be played, but for those
// listed.
func TestExamples(t *testing.T) {
	dirs := []string{"."}
	for name := range allowed {
		dirs = append(dirs, name)
	}
	dirs = append(dirs, "signing/cosign/keyless", "upgrade/release/registry")
	all := 0
	for _, dir := range dirs {
		names, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		require.NoError(t, err)
		var files []*ast.File
		for _, name := range names {
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			require.NoError(t, err)
			files = append(files, f)
		}
		var odd []string
		whole := false
		for _, e := range doc.Examples(files...) {
			all++
			whole = whole || e.Name == "" || e.Name[0] == '_'
			if e.Play == nil {
				odd = append(odd, e.Name)
			}
		}
		require.Equal(t, slices.Contains(withoutPackageExample, dir), !whole, "%s: package Example", dir)
		slices.Sort(odd)
		require.Equal(t, notPlayable[dir], odd, "%s: Examples that cannot be played", dir)
	}
	require.Greater(t, all, 280)
}
