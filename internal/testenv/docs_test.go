package testenv

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every exported name of the public packages has a comment; for a field, and a method of an interface, that of the type or of a neighbour
// will do, if it mentions the name. That it begins with the name is staticcheck's to see.
func TestDocumented(t *testing.T) {
	for _, dir := range []string{"buf", "driver", "executor", "fs", "net", "ops"} {
		sources, err := filepath.Glob("../../" + dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		files, names := token.NewFileSet(), 0
		check := func(name *ast.Ident, docs ...*ast.CommentGroup) {
			if !name.IsExported() {
				return
			}
			names++
			for _, d := range docs {
				if d.Text() != "" {
					return
				}
			}
			t.Errorf("%s: %s has no comment", files.Position(name.Pos()), name.Name)
		}
		for _, source := range sources {
			if strings.HasSuffix(source, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(files, source, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range f.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					if d.Recv == nil || ast.IsExported(receiver(d.Recv.List[0].Type)) {
						check(d.Name, d.Doc)
					}
				case *ast.GenDecl:
					for _, s := range d.Specs {
						switch s := s.(type) {
						case *ast.TypeSpec:
							check(s.Name, d.Doc, s.Doc)
							if !s.Name.IsExported() {
								break
							}
							said := []*ast.CommentGroup{d.Doc, s.Doc}
							for _, f := range parts(s.Type) {
								said = append(said, f.Doc, f.Comment)
							}
							for _, f := range parts(s.Type) {
								for _, name := range f.Names {
									check(name, append(about(name.Name, said), f.Doc, f.Comment)...)
								}
							}
						case *ast.ValueSpec: // of a group, one comment does
							for _, name := range s.Names {
								check(name, d.Doc, s.Doc, s.Comment)
							}
						}
					}
				}
			}
		}
		if names < 10 {
			t.Errorf("%s has %d names only: were they looked at?", dir, names)
		}
	}
}

// Every example runs: one without an output is only compiled.
func TestExamplesRun(t *testing.T) {
	for _, dir := range []string{"buf", "driver", "executor", "fs", "net", "ops"} {
		tests, err := filepath.Glob("../../" + dir + "/*_test.go")
		if err != nil {
			t.Fatal(err)
		}
		examples := 0
		for _, test := range tests {
			f, err := parser.ParseFile(token.NewFileSet(), test, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range doc.Examples(f) {
				if examples++; e.Output == "" && !e.EmptyOutput {
					t.Errorf("%s: Example%s does not run", test, e.Name)
				}
			}
		}
		if examples == 0 {
			t.Errorf("%s has no examples", dir)
		}
	}
}

// about returns the comments that have a word in them.
func about(word string, all []*ast.CommentGroup) (some []*ast.CommentGroup) {
	is := regexp.MustCompile(`\b` + word + `\b`)
	for _, c := range all {
		if is.MatchString(c.Text()) {
			some = append(some, c)
		}
	}
	return some
}

// parts returns the fields of a structure, or the methods of an interface.
func parts(e ast.Expr) []*ast.Field {
	switch e := e.(type) {
	case *ast.StructType:
		return e.Fields.List
	case *ast.InterfaceType:
		return e.Methods.List
	}
	return nil
}

// receiver returns the name of a method's type.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}
