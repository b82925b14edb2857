package testenv

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// Every exported name of the public packages has a comment. That it begins with the name is staticcheck's to see.
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
