package main

// kind is what a scalar is in YAML. A value of another kind is refused, so that
// no number is bent into text or text into a number.
type kind struct {
	tag  string // the tag that yaml gives to such a scalar
	also string // another tag that is as good, or ""
	name string // for messages
}

var (
	text    = kind{tag: "!!str", name: "text"}
	boolean = kind{tag: "!!bool", name: "true or false"}
	integer = kind{tag: "!!int", name: "a whole number"}
	decimal = kind{tag: "!!float", also: "!!int", name: "a number"}
	period  = kind{tag: "!!str", also: "!!int", name: "a duration such as 10s"} // a number is told that it has no unit
)

// setting is a key of T that holds a scalar or a list of scalars.
type setting[T any] struct {
	key   string // with its sections: "server.listen"
	kind  kind   // of the scalar, or of every element
	list  bool
	reset func(*T)               // forgets the default before the first element of a list
	set   func(*T, string) error // takes the scalar, or one element
}

func scalar[T, V any](key string, k kind, field func(*T) *V, parse func(string) (V, error)) setting[T] {
	return setting[T]{key: key, kind: k, reset: func(*T) {}, set: func(t *T, s string) error {
		v, err := parse(s)
		if err == nil {
			*field(t) = v
		}
		return err
	}}
}

// of returns the setting with elements of another kind.
func (s setting[T]) of(k kind) setting[T] {
	s.kind = k
	return s
}

func list[T, V any](key string, field func(*T) *[]V, parse func(string) (V, error)) setting[T] {
	return setting[T]{
		key: key, kind: text, list: true,
		reset: func(t *T) { *field(t) = nil },
		set: func(t *T, s string) error {
			v, err := parse(s)
			if err == nil {
				*field(t) = append(*field(t), v)
			}
			return err
		},
	}
}
