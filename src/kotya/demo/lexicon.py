"""The words of the demo's grammar, every form written out: a Russian reader can check them line by line.

Nothing is derived by rule except the endings of adjectives, so that an irregular word (пёс пса, в саду, две) costs
no exception.
"""

from dataclasses import dataclass
from typing import Literal

Case = Literal["nominative", "genitive", "dative", "accusative", "instrumental", "locative"]
Gender = Literal["m", "f", "n"]
CASES: tuple[Case, ...] = ("nominative", "genitive", "dative", "accusative", "instrumental", "locative")


@dataclass(frozen=True)
class Noun:
    """A noun in the singular, its genitive plural (for numerals) and its English word."""

    gender: Gender
    kind: str
    forms: dict[Case, str]
    genitive_plural: str
    english: str
    plural: str

    @property
    def animate(self) -> bool:
        """Whether the accusative of masculine adjectives and numerals is the genitive: вижу белого кота, белый дом."""
        return self.kind in ("person", "kin", "name", "small", "large", "fish")


@dataclass(frozen=True)
class Verb:
    """A verb's past (он, она, оно, они) and present (я, он, мы, они) with the English past, participle and base form.

    The imperfective is an English progressive (читал: was reading), the perfective a simple past (прочитал: read);
    видел, which names no process, is "saw". A verb has the English forms that its aspect asks for.
    """

    past: dict[str, str]
    present: dict[str, str]
    simple: str
    progressive: str
    base: str
    objects: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """A noun with a preposition and the case that it takes, and the English preposition."""

    preposition: str
    noun: Noun
    case: Case
    english: str
    kind: str


# Nominative genitive dative accusative instrumental locative (the prepositional as it stands after в and на: в саду);
# genitive plural; English singular and plural. `small` animals fit on a sofa, `large` ones do not.
# «Котя» is masculine by sense, as «дядя» is: маленький котя, маленького котю.
NOUN_TABLE = """
m person  мальчик мальчика мальчику мальчика мальчиком мальчике | мальчиков | boy boys
f person  девочка девочки девочке девочку девочкой девочке | девочек | girl girls
m person  учитель учителя учителю учителя учителем учителе | учителей | teacher teachers
m person  врач врача врачу врача врачом враче | врачей | doctor doctors
m person  художник художника художнику художника художником художнике | художников | artist artists
m kin     брат брата брату брата братом брате | братьев | brother brothers
f kin     сестра сестры сестре сестру сестрой сестре | сестёр | sister sisters
f kin     бабушка бабушки бабушке бабушку бабушкой бабушке | бабушек | grandmother grandmothers
m kin     дедушка дедушки дедушке дедушку дедушкой дедушке | дедушек | grandfather grandfathers
m kin     друг друга другу друга другом друге | друзей | friend friends
f name    Маша Маши Маше Машу Машей Маше | - | Masha -
f name    Анна Анны Анне Анну Анной Анне | - | Anna -
m name    Иван Ивана Ивану Ивана Иваном Иване | - | Ivan -
m name    Пётр Петра Петру Петра Петром Петре | - | Peter -
m small   кот кота коту кота котом коте | котов | cat cats
m small   котя коти коте котю котей коте | - | cat cats
f small   кошка кошки кошке кошку кошкой кошке | кошек | cat cats
m small   пёс пса псу пса псом псе | псов | dog dogs
f small   собака собаки собаке собаку собакой собаке | собак | dog dogs
f small   мышь мыши мыши мышь мышью мыши | мышей | mouse mice
f small   птица птицы птице птицу птицей птице | птиц | bird birds
f small   утка утки утке утку уткой утке | уток | duck ducks
m small   заяц зайца зайцу зайца зайцем зайце | зайцев | hare hares
f small   лиса лисы лисе лису лисой лисе | лис | fox foxes
m large   конь коня коню коня конём коне | коней | horse horses
f large   корова коровы корове корову коровой корове | коров | cow cows
m large   волк волка волку волка волком волке | волков | wolf wolves
m large   медведь медведя медведю медведя медведем медведе | медведей | bear bears
m large   слон слона слону слона слоном слоне | слонов | elephant elephants
m large   осёл осла ослу осла ослом осле | ослов | donkey donkeys
f fish    рыба рыбы рыбе рыбу рыбой рыбе | - | fish -
n food    яблоко яблока яблоку яблоко яблоком яблоке | яблок | apple apples
f food    груша груши груше грушу грушей груше | груш | pear pears
f text    книга книги книге книгу книгой книге | книг | book books
n text    письмо письма письму письмо письмом письме | писем | letter letters
f thing   тетрадь тетради тетради тетрадь тетрадью тетради | тетрадей | notebook notebooks
m thing   карандаш карандаша карандашу карандаш карандашом карандаше | карандашей | pencil pencils
f thing   шляпа шляпы шляпе шляпу шляпой шляпе | шляп | hat hats
m thing   мяч мяча мячу мяч мячом мяче | мячей | ball balls
n thing   зеркало зеркала зеркалу зеркало зеркалом зеркале | зеркал | mirror mirrors
n thing   ведро ведра ведру ведро ведром ведре | вёдер | bucket buckets
f thing   коробка коробки коробке коробку коробкой коробке | коробок | box boxes
m rest    мат мата мату мат матом мате | матов | mat mats
m rest    ковёр ковра ковру ковёр ковром ковре | ковров | carpet carpets
m rest    диван дивана дивану диван диваном диване | диванов | sofa sofas
m rest    стул стула стулу стул стулом стуле | стульев | chair chairs
m rest    стол стола столу стол столом столе | столов | table tables
f rest    кровать кровати кровати кровать кроватью кровати | кроватей | bed beds
n rest    кресло кресла креслу кресло креслом кресле | кресел | armchair armchairs
n rest    одеяло одеяла одеялу одеяло одеялом одеяле | одеял | blanket blankets
f rest    крыша крыши крыше крышу крышей крыше | крыш | roof roofs
m area    сад сада саду сад садом саду | садов | garden gardens
m area    лес леса лесу лес лесом лесу | лесов | forest forests
m area    парк парка парку парк парком парке | парков | park parks
n area    поле поля полю поле полем поле | полей | field fields
m area    мост моста мосту мост мостом мосту | мостов | bridge bridges
m area    дом дома дому дом домом доме | домов | house houses
f area    комната комнаты комнате комнату комнатой комнате | комнат | room rooms
f area    кухня кухни кухне кухню кухней кухне | кухонь | kitchen kitchens
f area    школа школы школе школу школой школе | школ | school schools
f area    река реки реке реку рекой реке | рек | river rivers
n area    озеро озера озеру озеро озером озере | озёр | lake lakes
n area    дерево дерева дереву дерево деревом дереве | деревьев | tree trees
n area    окно окна окну окно окном окне | окон | window windows
"""

# Past: он она оно они. Present: я он мы они (perfectives have none). English: simple past or the participle; base form.
# What the verb takes as its object, by kind of noun.
VERB_TABLE = """
видел видела видело видели | - | saw | see | person kin name small large thing text food rest area
заметил заметила заметило заметили | - | noticed | notice | person kin name small large thing text food rest
искал искала искало искали | ищу ищет ищем ищут | looking for | - | person kin name small large thing text
нашёл нашла нашло нашли | - | found | find | small large thing text food
рисовал рисовала рисовало рисовали | рисую рисует рисуем рисуют | drawing | - | person kin name small large area thing
нарисовал нарисовала нарисовало нарисовали | - | drew | draw | person kin name small large area thing
купил купила купило купили | - | bought | buy | thing text food rest fish
потерял потеряла потеряло потеряли | - | lost | lose | thing text
читал читала читало читали | читаю читает читаем читают | reading | - | text
прочитал прочитала прочитало прочитали | - | read | read | text
писал писала писало писали | пишу пишет пишем пишут | writing | - | text
написал написала написало написали | - | wrote | write | text
ел ела ело ели | ем ест едим едят | eating | - | food fish
съел съела съело съели | - | ate | eat | food fish
кормил кормила кормило кормили | кормлю кормит кормим кормят | feeding | - | small large
накормил накормила накормило накормили | - | fed | feed | small large
мыл мыла мыло мыли | мою моет моем моют | washing | - | small thing food
вымыл вымыла вымыло вымыли | - | washed | wash | small thing food
спал спала спало спали | сплю спит спим спят | sleeping | - | -
сидел сидела сидело сидели | сижу сидит сидим сидят | sitting | - | -
лежал лежала лежало лежали | лежу лежит лежим лежат | lying | - | -
стоял стояла стояло стояли | стою стоит стоим стоят | standing | - | -
играл играла играло играли | играю играет играем играют | playing | - | -
гулял гуляла гуляло гуляли | гуляю гуляет гуляем гуляют | walking | - | -
прыгнул прыгнула прыгнуло прыгнули | - | jumped | jump | -
залез залезла залезло залезли | - | climbed | climb | -
побежал побежала побежало побежали | - | ran | run | -
дал дала дало дали | - | gave | give | -
показал показала показало показали | - | showed | show | -
"""

# Preposition, noun, case; English preposition; what one does there: rest (lie, sleep, sit) or roam (walk, play, stand).
PLACE_TABLE = """
на мат locative | on | rest
на ковёр locative | on | rest
на диван locative | on | rest
на стул locative | on | rest
на стол locative | on | rest
на кровать locative | on | rest
на одеяло locative | on | rest
на крыша locative | on | rest
на коробка locative | on | rest
в коробка locative | in | rest
в кресло locative | in | rest
под стол instrumental | under | rest
под стул instrumental | under | rest
под диван instrumental | under | rest
под кровать instrumental | under | rest
под одеяло instrumental | under | rest
в сад locative | in | roam
в лес locative | in | roam
в парк locative | in | roam
в поле locative | in | roam
в дом locative | in | roam
в комната locative | in | roam
на кухня locative | in | roam
в школа locative | in | roam
на мост locative | on | roam
под мост instrumental | under | roam
под дерево instrumental | under | roam
за дом instrumental | behind | roam
за дерево instrumental | behind | roam
за школа instrumental | behind | roam
у река genitive | by | roam
у озеро genitive | by | roam
у окно genitive | by | roam
у дом genitive | by | roam
"""

# Where to: the same prepositions with the accusative.
GOAL_TABLE = """
на мат | onto
на ковёр | onto
на диван | onto
на стул | onto
на стол | onto
на кровать | onto
на крыша | onto
на мост | onto
в коробка | into
в кресло | into
в сад | into
в лес | into
в парк | into
в дом | into
в комната | into
в река | into
в озеро | into
под стол | under
под диван | under
под кровать | under
"""

# Endings by declension: nominative genitive dative accusative instrumental locative, of m, f, n; an inanimate masculine
# accusative is the nominative. Hard новый, stressed молодой, after г к х маленький, after ш большой, soft синий.
ENDINGS = {
    "hard": "ый ого ому ого ым ом, ая ой ой ую ой ой, ое ого ому ое ым ом",
    "stressed": "ой ого ому ого ым ом, ая ой ой ую ой ой, ое ого ому ое ым ом",
    "velar": "ий ого ому ого им ом, ая ой ой ую ой ой, ое ого ому ое им ом",
    "sibilant": "ой ого ому ого им ом, ая ой ой ую ой ой, ое ого ому ое им ом",
    "soft": "ий его ему его им ем, яя ей ей юю ей ей, ее его ему ее им ем",
}
# Stem, declension, English, and the kinds of noun it suits.
ADJECTIVE_TABLE = """
больш sibilant | big | small large thing rest area fish
маленьк velar | small | person small large thing rest area fish text food
стар hard | old | person small large thing rest area text
нов hard | new | thing rest text
молод stressed | young | person large
добр hard | kind | person small large
бел hard | white | small large thing rest
чёрн hard | black | small large thing rest
сер hard | grey | small large thing rest
красн hard | red | thing rest food
зелён hard | green | thing rest food
син soft | blue | thing rest
"""
# Written out: nominative genitive dative accusative (animate) instrumental locative, of m, f, n.
DETERMINERS = {
    "this": "этот этого этому этого этим этом, эта этой этой эту этой этой, это этого этому это этим этом",
    "my": "мой моего моему моего моим моём, моя моей моей мою моей моей, моё моего моему моё моим моём",
    "your": "твой твоего твоему твоего твоим твоём, твоя твоей твоей твою твоей твоей, "
    "твоё твоего твоему твоё твоим твоём",
    "our": "наш нашего нашему нашего нашим нашем, наша нашей нашей нашу нашей нашей, "
    "наше нашего нашему наше нашим нашем",
}


def rows(table: str) -> list[list[str]]:
    """The lines of a table, each cut at its bars."""
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


def read_nouns() -> list[Noun]:
    """The noun table."""
    nouns = []
    for singular, genitive_plural, english in rows(NOUN_TABLE):
        gender, kind, *forms = singular.split()
        word, plural = english.split()
        nouns.append(
            Noun(gender, kind, dict(zip(CASES, forms, strict=True)), genitive_plural, word, plural)  # type: ignore[arg-type]
        )
    return nouns


def read_verbs() -> dict[str, Verb]:
    """The verb table, by the masculine past."""
    verbs = {}
    for past, present, english, base, objects in rows(VERB_TABLE):
        past_forms = dict(zip(("m", "f", "n", "plural"), past.split(), strict=True))
        present_forms = (
            {} if present == "-" else dict(zip(("я", "он", "мы", "они"), present.split(), strict=True))
        )
        simple, progressive = (english, "") if base != "-" else ("", english)
        verbs[past_forms["m"]] = Verb(
            past_forms, present_forms, simple, progressive, base, tuple(objects.replace("-", "").split())
        )
    return verbs


NOUNS = read_nouns()
NOUN = {noun.forms["nominative"]: noun for noun in NOUNS}
VERBS = read_verbs()


def read_places() -> list[Place]:
    """The table of places."""
    places = []
    for russian, english, kind in rows(PLACE_TABLE):
        preposition, noun, case = russian.split()
        places.append(Place(preposition, NOUN[noun], case, english, kind))  # type: ignore[arg-type]
    return places


def read_goals() -> list[Place]:
    """The table of goals; under is the same word in English, wherever it is going."""
    return [
        Place(russian.split()[0], NOUN[russian.split()[1]], "accusative", english, "goal")
        for russian, english in rows(GOAL_TABLE)
    ]


PLACES = read_places()
GOALS = read_goals()


def agree(paradigm: str, noun: Noun, case: Case) -> str:
    """The form in a paradigm (m, f, n, six cases each) that agrees with the noun."""
    forms = paradigm.split(", ")["mfn".index(noun.gender)].split()
    if case == "accusative" and noun.gender == "m" and not noun.animate:
        return forms[0]
    return forms[CASES.index(case)]


@dataclass(frozen=True)
class Adjective:
    """An adjective and the kinds of noun that it suits."""

    stem: str
    declension: str
    english: str
    kinds: tuple[str, ...]

    def form(self, noun: Noun, case: Case) -> str:
        """The form that agrees with the noun."""
        return self.stem + agree(ENDINGS[self.declension], noun, case)


ADJECTIVES = [
    Adjective(stem, declension, english, tuple(kinds.split()))
    for russian, english, kinds in rows(ADJECTIVE_TABLE)
    for stem, declension in [russian.split()]
]
