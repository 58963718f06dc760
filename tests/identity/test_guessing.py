"""How many guesses passwords withstand: what is refused, and above all what is not."""

import itertools
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from medportal.identity import guessing
from medportal.identity.blocklist import LOOKALIKES, common, fold
from medportal.identity.guessing import ENOUGH, LONGEST, bits, bits_wanted

PERSONAL = [
    "Amanda Júlio",
    "17645234",
    "Riverside Hospital",
    "Hospital da Ribeira",
    "hospital.localhost",
    "amanda.julio",
    "03021980",
    "1980",
]

# Passphrases as people make them, in two languages: none of these may be refused.
PASSPHRASES = """
quiet rivers carry small boats
seven green lamps in a row
my dog ate the red ball
the cat is in the house
twelve angry geese flying
horse lamp river
I never liked cold soup
we walked to the old mill
grandma keeps bees and roses
a yellow bicycle under snow
Tuesday is for playing cards
blue tiles on the kitchen wall
o gato dorme na varanda
a minha avó faz bolos
ação é reação, não é?
quatro palavras sem nexo
três pratos de trigo
cavalo correto bateria grampo
batata frita com ovo
vou ao mercado comprar peixe
As armas e os barões assinalados
gatinho azul salta alto
uma casa portuguesa
chuva janela tambor
o meu primeiro carro foi um fiat
mesa gato sol mar
fado ao luar de agosto
janelas verdes 1987
bom dia minha querida
sopa de pedra à sexta-feira
o mar enrola na areia
não há fome sem fartura
Sá da Bandeira 1834 Lisboa
quatrocaveirasdançamtango
janelaTamborChuvaRio
Ribeira: peixe fresco ao sábado
hospital visits make me hungry
kX9#vL2pQz!m4Rt7
mnbzxcoiuwerlkj
пароль слово дерево
가나다라마바사아자차카타파하거
""".strip().splitlines()

# What a guesser tries early, though it has fifteen characters or more.
GUESSED = """
Password123456!!
PasswordPasswordPassword
P4$$w0rdP4$$w0rd
p a s s w o r d 1 2 3
p-a-s-s-w-o-r-d!
drowssapdrowssap
Passwоrd12345678
Ｐａｓｓｗｏｒｄ１２３４５６
qwertyuiopasdfghjk
asdfghjklçasdfghjklç
1qaz2wsx3edc4rfv
qazwsxedcrfvtgb
qwerty123456789
1q2w3e4r5t6y7u8i9o
123456789012345
987654321987654321
abcdefghijklmnop
ABCDEFGHIJKLMNOP
zyxwvutsrqponm987
aaaaaaaaaaaaaaaaa
aaaaabbbbbccccc
abcabcabcabcabcabc
x1y2zx1y2zx1y2zx1y2z
iloveyouiloveyou
letmein letmein 1
correct horse battery staple
correcthorsebatterystaple
palavra-passe palavra-passe
Palavra-Passe2024
minha senha 123456
deus é fiel 2024
amo minha família
Benfica1904Benfica
sporting clube de portugal
Cardiologia2024!
hospital portugal
administrator123
Maria1980Maria1980
Summer2023Summer2024
""".strip().splitlines()


@pytest.mark.parametrize("password", PASSPHRASES)
def test_a_decent_passphrase_is_enough(password: str) -> None:
    assert bits(password, PERSONAL) >= bits_wanted(15)
    assert bits(unicodedata.normalize("NFD", password), PERSONAL) >= bits_wanted(15)


@pytest.mark.parametrize("password", GUESSED)
def test_what_is_tried_early_is_not(password: str) -> None:
    assert bits(password) < bits_wanted(15)


@pytest.mark.parametrize(
    "password",
    [
        "amanda júlio 17645234",
        "AmandaJulio1980!",
        "Amanda03021980Amanda",
        "oiluj adnama 1980",
        "Hospital da Ribeira 2024",
        "RIVERSIDEHOSPITAL1",
        "17645234-17645234",
        "4m4nd4 Jul10 1980",
        "17645234 amanda.julio",
    ],
)
def test_what_an_acquaintance_tries_is_not(password: str) -> None:
    assert bits(password, PERSONAL) < bits_wanted(15)


@pytest.mark.parametrize(
    ("password", "is_enough"),
    [
        ("xk3pqz9w", True),
        ("gato7mesa", True),
        ("mesa+gato", True),
        ("12345678", False),
        ("sunshine1", False),
        ("P@ssw0rd", False),
        ("elephant99", False),
        ("Summer2024", False),
        ("lisboa2024", False),
        ("benfica1", False),
        ("amanda80", False),
        ("17645234", False),
    ],
)
def test_beside_a_second_factor_eight_characters_may_be_enough(
    password: str, is_enough: bool
) -> None:
    assert (bits(password, PERSONAL) >= bits_wanted(8)) is is_enough


def test_how_much_is_wanted() -> None:
    assert [bits_wanted(minimum) for minimum in (8, 10, 12, 15, 64)] == [20, 25, 30, 30, 30]


def test_every_listed_password_is_refused_whatever_its_length() -> None:
    """ASVS 5.0, 6.2.4: far more than the 3,000 commonest that are long enough."""
    assert max(common().values()) < bits_wanted(8)
    eight = [word for word in FREQUENCY_LISTS["passwords"] if len(word) >= 8]
    assert len(eight) > 10_000
    assert all(bits(word) < bits_wanted(8) for word in eight[::40])
    # Of fifteen characters and more: put together from two, or followed by a year.
    pairs = itertools.islice(itertools.pairwise(eight), 0, 9_000, 40)
    fifteen = [one + two for one, two in pairs if len(one + two) >= 15]
    assert len(fifteen) > 200
    assert sum(bits(word) < ENOUGH for word in fifteen) / len(fifteen) > 0.99


def test_any_four_different_words_are_enough() -> None:
    """Whichever they are: the commonest of either language, with a space between."""
    words = ["que", "não", "para", "uma", "você", "the", "you", "and", "that", "what", "know"]
    for four in itertools.combinations(words, 4):
        assert bits(" ".join(four)) >= ENOUGH, four


def test_case_accents_and_lookalikes_add_next_to_nothing() -> None:
    plain = bits("coracao partido")
    assert bits("coração partido") == plain
    assert plain < bits("Coração Partido") <= plain + 2
    assert plain < bits("CORAÇÃO PARTIDO") <= plain + 2
    assert bits("c0r4c4o p4rt1d0") <= plain + 1
    assert bits("cOrAcAo partido") <= plain + 4
    # Letters of another alphabet that look the same.
    assert bits("соrасао partido") == plain


def test_invisible_characters_add_nothing() -> None:
    assert bits("pass\u200bword\u00ad\u2060") == bits("password")


def test_personal_words_count_in_parts_and_as_a_whole() -> None:
    assert bits("amandajulio", ["Amanda Júlio"]) == guessing._PERSONAL
    assert bits("julio", ["Amanda Júlio"]) == guessing._PERSONAL
    assert bits("Al", ["Al"]) == bits("Al"), "what has two letters is in everything"
    assert bits("rivers", ["", "-", "   "]) == bits("rivers")


def test_nothing_and_spaces() -> None:
    assert bits("") == 0
    assert bits(" " * 40) < 20
    assert bits("-_" * 20) < 20


@given(st.text(max_size=40), st.lists(st.text(max_size=12), max_size=4))
def test_more_is_known_or_typed(password: str, personal: list[str]) -> None:
    found = bits(password, personal)
    assert 0 <= found <= bits(password) + 1e-9
    # Half a letter is never worth less than none; what is appended may only complete a word.
    assert bits(password + "\ud800") >= 0


@pytest.mark.parametrize(
    "password",
    [
        "a" * 256,
        "4@" * 128,
        "q1w2e3" * 42,
        "\ufdfa" * 256,
        "é" * 128,
        "password" * 32,
        "".join(chr(97 + (i * i * 7) % 26) for i in range(256)),
        "4@8({[</369&#!1/|0$5+7%2" * 10,
        "x" * 1_000_000,
        "\ufdfa" * 100_000,
    ],
)
def test_the_work_is_bounded(password: str) -> None:
    """Counted in parts that are looked at, not in seconds: those of one text of 256 letters."""
    text = guessing._text(guessing._letters(password))
    assert len(text.plain) <= LONGEST
    parts = sum(1 for start in range(len(text.plain)) for _ in guessing._parts(text, start, {}))
    assert parts < LONGEST * (LONGEST + 100)
    assert bits(password) > 0


def test_a_look_alike_is_one_letter_for_one() -> None:
    assert all(isinstance(after, int) for after in LOOKALIKES.values())
    assert not {chr(after) for after in LOOKALIKES.values()} & {chr(c) for c in LOOKALIKES}


def test_folding() -> None:
    assert fold("Ação, JÚLIO ﬁ Ⅷ ß") == "acao, julio fi viii ss"
    assert fold("Plain ASCII 1!") == "plain ascii 1!"


def test_the_lists_are_whole_and_no_more_than_memory_is_worth() -> None:
    """Each word once, in a form that can be found, from the package and of our own."""
    found = common()
    assert 50_000 < len(found) < 100_000
    assert sum(map(sys.getsizeof, found)) < 6_000_000
    for word in ("password", "palavrapasse", "benfica", "joana", "janeia"):
        assert word.translate(LOOKALIKES) in found
    assert all(word == word.translate(LOOKALIKES) for word in found)


def test_the_lists_are_read_when_they_are_first_asked_for_and_once() -> None:
    """A process in which nobody chooses a password has no use for them."""
    program = (
        "import sys; from medportal.identity import guessing, blocklist;"
        "assert 'zxcvbn' not in sys.modules; guessing.bits('x' * 20);"
        "assert 'zxcvbn' in sys.modules; assert blocklist.common() is blocklist.common()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)  # noqa: S603
