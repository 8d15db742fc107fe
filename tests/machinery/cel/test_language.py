"""The language against a table of what it must say, and against Google's implementation where that is installed."""

import pytest

from peavine.machinery.cel import CelError, CompileError, CostExceeded, Environment, list_of, object_of
from peavine.machinery.cel.types import DOUBLE, DURATION, DYN, INT, STRING, TIMESTAMP
from peavine.machinery.cel.values import Optional

DATA = {"self": {"replicas": 3, "name": "abc", "items": [1, 2, 3], "ratio": 0.5, "map": {"a": 1, "b": 2}, "on": True}}
UNTYPED = Environment({"self": DYN})


def value(source, environment=UNTYPED, data=DATA):
    found, _ = environment.compile(source).evaluate(data)
    return found.value if isinstance(found, Optional) and found.present else found


# Plain CEL: both implementations must agree on these.
PLAIN = [
    "1 + 2 * 3 - 4",
    "-7 / 2",
    "-7 % 3",
    "7.0 / 2.0",
    "1u + 2u",
    "0x1F",
    "1e3",
    "'a' + \"b\"",
    "b'ab' + b'c'",
    "r'\\d'",
    "'\\u0041\\n\\x42'",
    "'''multi'line'''",
    "[1, 2] + [3]",
    "{'a': 1, 'b': 2}['b']",
    "{'a': {'b': 1}}.a.b",
    "self.replicas >= 3 && self.name == 'abc'",
    "self.replicas == 3.0",
    "self.items[1]",
    "self.items.size() == size(self.items)",
    "2 in self.items",
    "'a' in self.map",
    "has(self.name) && !has(self.other)",
    "self.items.all(x, x > 0)",
    "self.items.exists(x, x > 2)",
    "self.items.exists_one(x, x == 2)",
    "self.items.map(x, x * 2)",
    "self.items.map(x, x > 1, x * 2)",
    "self.items.filter(x, x != 2)",
    "self.map.all(k, self.map[k] > 0)",
    "self.items.map(x, self.items.filter(y, y > x).size())",
    "self.on ? 'yes' : 'no'",
    "false && self.missing == 1",
    "self.missing == 1 && false",
    "true || self.missing == 1",
    "self.missing == 1 || true",
    "[1, 0].exists(x, 1 / x == 1)",
    "[0, 1].exists(x, 1 / x == 1)",
    "'hello'.contains('ell') && 'hello'.startsWith('he') && 'hello'.endsWith('lo')",
    "'hello'.matches('^h.*o$') && matches('x', 'x')",
    "size('aé') == 2",
    "int('42') + int(3.9) + int(true ? 1u : 2u)",
    "string(42) + string(1.5) + string(true)",
    "double('1.5') + double(2)",
    "timestamp('2020-02-03T04:05:06.5Z').getFullYear()",
    "timestamp('2020-02-03T04:05:06Z').getMonth()",
    "timestamp('2020-02-03T04:05:06Z').getDayOfWeek()",
    "timestamp('2020-02-03T04:05:06Z').getHours('+02:00')",
    "timestamp('2020-01-02T00:00:00Z') - timestamp('2020-01-01T00:00:00Z') == duration('24h')",
    "timestamp('2020-01-01T00:00:00Z') + duration('1h') > timestamp('2020-01-01T00:30:00Z')",
    "duration('1h30m').getMinutes()",
    "type(1) == int && type('a') == string && type([]) == list && type(null) == null_type",
    "!!true && -(-1) == 1",
    "1 < 2 && 1u < 2u && 'a' < 'b' && 1.0 < 2.0 && b'a' < b'b' && false < true",
    "dyn(1) == 'a'",
    "[1, 2] == [1, 2] && {'a': [1]} == {'a': [1]}",
    "null == null",
    "bytes('abc') == b'abc'",
    "// a comment\n1 + 1",
]
# Evaluation that comes to no value.
FAILING = [
    "self.missing == 1",
    "self.items[9] == 1",
    "1 / 0 == 1",
    "1 % 0 == 1",
    "9223372036854775807 + 1 == 0",
    "self.name + 1 == 2",
    "int('x') == 1",
    "timestamp('yesterday') == timestamp('2020-01-01T00:00:00Z')",
    "self.items.all(x, x / 0 == 1)",
]
WRONG = ["1 +", "foo", "1 + 'a'", "self.items.nope()", "[1, 2].map(1, x)", "'abc", "true ? 1 : 'a'", "1u == 1", "a.b()"]


@pytest.mark.parametrize("source", PLAIN)
def test_plain_expressions_mean_what_googles_implementation_makes_of_them(source):
    cel = pytest.importorskip("cel_expr_python.cel")
    other = cel.NewEnv(variables={"self": cel.Type.DYN}).compile(source).eval(data=DATA).plain_value()
    assert value(source) == other


@pytest.mark.parametrize("source", FAILING)
def test_what_has_no_value_raises_at_evaluation(source):
    program = UNTYPED.compile(source)
    with pytest.raises(CelError):
        program.evaluate(DATA)


@pytest.mark.parametrize("source", WRONG)
def test_what_is_wrong_is_told_at_compilation_as_google_tells_it(source):
    with pytest.raises(CompileError) as caught:
        UNTYPED.compile(source)
    text = str(caught.value)
    assert text.startswith("ERROR: <input>:1:") and text.endswith("^")
    cel = pytest.importorskip("cel_expr_python.cel")
    with pytest.raises(RuntimeError) as theirs:
        cel.NewEnv(variables={"self": cel.Type.DYN}).compile(source)
    if "Syntax error" not in text and "argument must" not in text:
        assert text.splitlines()[0] in str(theirs.value)


EXTENDED = {
    "self.?nope.orValue(7)": 7,
    "self.?name.orValue('')": "abc",
    "self.items[?1].orValue(0)": 2,
    "self.?nope.?deeper.hasValue()": False,
    "optional.of(1).or(optional.none()).value()": 1,
    "optional.of(2).optMap(x, x * 2).orValue(0)": 4,
    "{?'a': self.?name, ?'b': self.?nope}": {"a": "abc"},
    "[?self.?name, ?self.?nope]": ["abc"],
    "cel.bind(x, self.replicas * 2, x + x)": 12,
    "self.map.all(k, v, v > 0 && k != '')": True,
    "self.items.transformList(i, v, i + v)": [1, 3, 5],
    "self.map.transformMap(k, v, v > 1, v * 10)": {"b": 20},
    "'a,b,c'.split(',', 2)": ["a", "b,c"],
    "['x', 'y'].join('-')": "x-y",
    "'hello'.substring(1, 3) + 'hello'.charAt(4)": "elo",
    "'Hello'.lowerAscii() + 'x'.upperAscii() + ' t '.trim()": "helloXt",
    "'a-b'.replace('-', '+')": "a+b",
    "'hello'.indexOf('l') + 'hello'.lastIndexOf('l')": 5,
    "'%s is %d, %.2f %x'.format(['a', 3, 1.005, 255])": "a is 3, 1.00 ff",
    "[3, 1, 2].isSorted() || [1, 2].isSorted()": True,
    "[3, 1, 2].sum() + [3, 1, 2].min() * [3, 1, 2].max()": 9,
    "[1, 2, 1].indexOf(1) + [1, 2, 1].lastIndexOf(1)": 2,
    "[1, 2, 1].distinct()": [1, 2],
    "[[1], [2, dyn([3])]].flatten()": [1, 2, [3]],
    "[3, 1].sort() + lists.range(2)": [1, 3, 0, 1],
    "sets.contains([1, 2], [2]) && sets.equivalent([1, 1], [1]) && sets.intersects([1], [1, 2])": True,
    "math.greatest(1, 3, 2) + math.least([4, 5])": 7,
    "self.name.find('[bc]+') + self.name.findAll('.', 2)[1]": "bcb",
    "quantity('1.5Gi').isGreaterThan(quantity('1G')) && quantity('500m').add(quantity('0.5')) == quantity('1')": True,
    "quantity('2').asInteger() + quantity('5').sub(3).asInteger()": 4,
    "isQuantity('1x')": False,
    "url('https://example.com:80/a b?x=1&x=2'.replace(' ', '%20')).getQuery()['x']": ["1", "2"],
    "url('https://user@example.com:8443/p').getHost() + url('http://[::1]:80/').getHostname()": "example.com:8443::1",
    "isURL('../up')": False,
    "ip('10.0.0.1').family() == 4 && ip('::1').isLoopback() && !isIP('10.0.0.256')": True,
    "ip.isCanonical('::01')": False,
    "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsCIDR(cidr('0.0.0.0/0'))": True,
    "string(cidr('10.1.2.3/8').masked())": "10.0.0.0/8",
    "format.dns1123Label().validate('ok').hasValue()": False,
    "format.named('uuid').hasValue() && !format.named('nope').hasValue()": True,
    "semver('1.2.3-rc.1').isLessThan(semver('1.2.3')) && semver('v1.2', true).minor() == 2": True,
    "Object{spec: Object.spec{replicas: 2}}": {"spec": {"replicas": 2}},
    "jsonpatch.escapeKey('a/b~c')": "a~1b~0c",
    "self.`name`": "abc",
}


@pytest.mark.parametrize("source", EXTENDED)
def test_the_libraries_that_kubernetes_adds_work(source):
    assert value(source) == EXTENDED[source]


TYPED = Environment(
    {
        "self": object_of(
            {
                "replicas": INT,
                "a__dash__b": STRING,
                "at": TIMESTAMP,
                "wait": DURATION,
                "ratio": DOUBLE,
                "when": list_of(TIMESTAMP),
                "tags": list_of(STRING, unique="set"),
                "ports": list_of(object_of({"port": INT, "name": STRING}), unique=("port",)),
            }
        )
    }
)
OBJECT = {
    "self": {
        "replicas": 1,
        "a-b": "dashed",
        "at": "2020-01-01T00:00:00Z",
        "wait": "90s",
        "ratio": 2,
        "when": ["2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"],
        "tags": ["a", "b"],
        "ports": [{"port": 1, "name": "x"}],
    }
}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("self.nope == 1", "ERROR: <input>:1:5: undefined field 'nope'\n | self.nope == 1\n | ....^"),
        (
            "self.replicas == 'a'",
            "ERROR: <input>:1:15: found no matching overload for '_==_' applied to '(int, string)'"
            "\n | self.replicas == 'a'\n | ..............^",
        ),
    ],
)
def test_fields_of_a_schema_are_checked(source, message):
    with pytest.raises(CompileError) as caught:
        TYPED.compile(source)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "source",
    [
        "self.a__dash__b == 'dashed' && self.`a-b` == 'dashed'",
        "self.at.getFullYear() == 2020 && self.wait > duration('1m')",
        "self.ratio / 4.0 == 0.5",
        "self.when.all(t, t < timestamp('2022-01-01T00:00:00Z')) && self.when[1].getFullYear() == 2021",
        "self.tags == ['b', 'a'] && (self.tags + ['b', 'c']).size() == 3",
        "(self.ports + dyn([{'port': 1, 'name': dyn('y')}])).size() == 1",
        "self.?wait.orValue(duration('1s')).getSeconds() == 90",
    ],
)
def test_values_have_the_type_that_the_schema_gives_them(source):
    program = TYPED.compile(source)
    assert program.evaluate(OBJECT)[0] is True


def test_the_type_of_the_result_can_be_demanded():
    with pytest.raises(CompileError, match="must evaluate to a bool"):
        UNTYPED.compile("1 + 1", "bool")
    with pytest.raises(CompileError, match="must evaluate to string"):
        UNTYPED.compile("true", "string")


def test_work_without_end_is_stopped_by_its_cost():
    program = UNTYPED.compile("self.all(x, self.all(y, self.all(z, x + y + z >= 0)))")
    with pytest.raises(CostExceeded, match="actual cost limit exceeded"):
        program.evaluate({"self": list(range(1000))}, 100_000)
    doubling = UNTYPED.compile("[1,2,3,4,5,6,7,8].map(x, self + self + self).size() > 0")
    with pytest.raises(CostExceeded):
        doubling.evaluate({"self": "x" * 1_000_000}, 100_000)


def test_a_regular_expression_cannot_hang_the_server():
    assert value("self.matches('^(a+)+$')", data={"self": "a" * 5000 + "b"}) is False


def test_deep_nesting_is_refused_not_a_crash():
    for source in ("(" * 3000 + "1" + ")" * 3000, "[" * 3000, "a." * 20_000 + "b"):
        with pytest.raises((CompileError, CelError)):
            UNTYPED.compile(source).evaluate(DATA)


def test_long_chains_of_conditions_are_fine():
    assert value(" && ".join(f"self.replicas != {n + 10}" for n in range(1000))) is True
    assert value(" + ".join(["1"] * 150)) == 150


def test_programs_know_which_variables_they_use():
    program = Environment({"self": DYN, "oldSelf": DYN}).compile("self.all(x, x > 1 && oldSelf.a == x)")
    assert program.uses("oldSelf") and program.uses("self") and not program.uses("params")
