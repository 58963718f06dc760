"""Words for synthetic patients: common Portuguese names, cities, what doctors write (PURE).

Names are combined at random; any likeness to a living person is an accident.
"""

from collections.abc import Mapping

from medportal.records.content import Sex


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


GIVEN_NAMES: Mapping[Sex, tuple[str, ...]] = {
    Sex.FEMALE: _words(
        """
        Adelaide Alice Amélia Beatriz Benedita Bruna Camila Carlota Carolina Catarina Clara
        Conceição Constança Daniela Diana Eduarda Elisa Elvira Ester Eva Fátima Filipa Francisca
        Gabriela Graça Helena Inês Isabel Jéssica Joana Júlia Lara Laura Leonor Lídia Luísa Lurdes
        Margarida Marta Matilde Olívia Palmira Patrícia Raquel Rita Rosa Sandra Sara Sofia Susana
        Teresa Vera Vitória
        """
    ),
    Sex.MALE: _words(
        """
        Abel Adriano Afonso Alberto Álvaro Amadeu António Artur Augusto Bernardo Bruno Carlos
        César Cristiano Daniel David Diogo Domingos Duarte Eduardo Ernesto Fábio Fernando Filipe
        Francisco Gil Gonçalo Guilherme Gustavo Hugo Ivo Jaime João Joaquim Jorge José Leonel
        Lourenço Luís Manuel Marco Martim Miguel Nuno Óscar Pedro Rafael Ricardo Rodrigo Salvador
        Sérgio Simão Tiago Tomás Vasco Vítor
        """
    ),
}
SURNAMES = _words(
    """
    Abrantes Aguiar Almeida Alves Amaral Amorim Antunes Araújo Azevedo Baptista Barbosa Barros
    Borges Brandão Brito Cabral Caetano Campos Cardoso Carvalho Castro Coelho Cordeiro Correia
    Cunha Dias Domingues Esteves Faria Farinha Fernandes Ferreira Fonseca Freitas Garcia Gaspar
    Gomes Gonçalves Guerreiro Henriques Lima Lopes Loureiro Macedo Machado Magalhães Marinho
    Martins Matos Melo Mendes Miranda Monteiro Morais Moreira Mota Moura Nascimento Neto Neves
    Nogueira Nunes Oliveira Pacheco Paiva Pereira Pinheiro Pires Quintas Ramos Rebelo Reis Ribeiro
    Rocha Rodrigues Sá Salgado Santos Saraiva Sequeira Serra Silva Simões Soares Sousa Tavares
    Teixeira Torres Valente Vaz Veiga Vieira
    """
)
CITIES = _words(
    """
    Lisboa Porto Braga Coimbra Setúbal Almada Aveiro Évora Faro Leiria Sintra Cascais Amadora
    Oeiras Loures Odivelas Barreiro Montijo Santarém Viseu Guimarães Beja
    """
)

# What a doctor writes: by condition, in English and in Portuguese, when it is first
# seen (first text) and at a later visit (second text).
DIAGNOSES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "diabetes": {
        "en": (
            "Type 2 diabetes mellitus, newly diagnosed. Metformin started; diet and exercise "
            "discussed. HbA1c again in three months.",
            "Type 2 diabetes mellitus, on metformin. Foot examination normal.",
        ),
        "pt": (
            "Diabetes mellitus tipo 2, diagnóstico recente. Inicia metformina; aconselhamento "
            "sobre alimentação e exercício. Repetir HbA1c dentro de três meses.",
            "Diabetes mellitus tipo 2, medicada com metformina. Exame do pé sem alterações.",
        ),
    },
    "hypertension": {
        "en": (
            "Essential hypertension. Home readings confirm. Ramipril 5 mg once a day, less salt.",
            "Essential hypertension, treated. No ankle swelling, takes the tablets.",
        ),
        "pt": (
            "Hipertensão arterial essencial, confirmada por medições em casa. Ramipril 5 mg uma "
            "vez por dia, reduzir o sal.",
            "Hipertensão arterial essencial, medicada. Sem edemas, boa adesão à terapêutica.",
        ),
    },
    "dyslipidaemia": {
        "en": (
            "Mixed dyslipidaemia. Lifestyle advice, atorvastatin 20 mg in the evening.",
            "Mixed dyslipidaemia, on atorvastatin. No muscle pain.",
        ),
        "pt": (
            "Dislipidemia mista. Medidas de estilo de vida, atorvastatina 20 mg à noite.",
            "Dislipidemia mista, medicada com atorvastatina. Sem mialgias.",
        ),
    },
    "hypothyroidism": {
        "en": (
            "Primary hypothyroidism: tired, cold, TSH raised. Levothyroxine 50 micrograms.",
            "Primary hypothyroidism, on levothyroxine. Feels well.",
        ),
        "pt": (
            "Hipotiroidismo primário: cansaço, intolerância ao frio, TSH elevada. Inicia "
            "levotiroxina 50 microgramas.",
            "Hipotiroidismo primário, medicado com levotiroxina. Refere sentir-se bem.",
        ),
    },
    "iron-deficiency": {
        "en": (
            "Iron deficiency anaemia. Oral iron for three months; cause to be looked for.",
            "Iron deficiency anaemia, better on oral iron.",
        ),
        "pt": (
            "Anemia por défice de ferro. Ferro oral durante três meses; investigar a causa.",
            "Anemia por défice de ferro, a melhorar com ferro oral.",
        ),
    },
    "kidney": {
        "en": (
            "Chronic kidney disease, stage 3. Avoid anti-inflammatory tablets; blood pressure.",
            "Chronic kidney disease, slowly progressive. Referred to nephrology.",
        ),
        "pt": (
            "Doença renal crónica, estádio 3. Evitar anti-inflamatórios; vigiar tensão arterial.",
            "Doença renal crónica, de progressão lenta. Referenciação a nefrologia.",
        ),
    },
    "anxiety": {
        "en": (
            "Generalised anxiety disorder. Psychotherapy offered, sleep advice.",
            "Generalised anxiety disorder, improving with psychotherapy.",
        ),
        "pt": (
            "Perturbação de ansiedade generalizada. Proposta psicoterapia, higiene do sono.",
            "Perturbação de ansiedade generalizada, a melhorar com psicoterapia.",
        ),
    },
}

# Short illnesses: with fever, and without.
ACUTE_WITH_FEVER: Mapping[str, tuple[str, ...]] = {
    "en": (
        "Acute tonsillitis. Paracetamol, fluids; return if not better in three days.",
        "Influenza-like illness. Rest and fluids.",
        "Acute bronchitis. No antibiotic needed at present.",
    ),
    "pt": (
        "Amigdalite aguda. Paracetamol, hidratação; voltar se não melhorar em três dias.",
        "Síndrome gripal. Repouso e hidratação.",
        "Bronquite aguda. Sem indicação para antibiótico neste momento.",
    ),
}
ACUTE: Mapping[str, tuple[str, ...]] = {
    "en": (
        "Low back pain after lifting, no warning signs. Keep moving, heat, paracetamol.",
        "Sprained left ankle. Rest, ice, elastic bandage.",
        "Allergic rhinitis. Antihistamine in season.",
        "Contact dermatitis of both hands. Moisturiser, gloves.",
    ),
    "pt": (
        "Lombalgia após esforço, sem sinais de alarme. Manter atividade, calor, paracetamol.",
        "Entorse do tornozelo esquerdo. Repouso, gelo, ligadura elástica.",
        "Rinite alérgica. Anti-histamínico na época própria.",
        "Dermatite de contacto das mãos. Creme emoliente, luvas.",
    ),
}
LABORATORY_NOTES: Mapping[str, tuple[str, ...]] = {
    "en": ("Sample slightly haemolysed; read potassium with care.", "Fasting sample."),
    "pt": ("Amostra ligeiramente hemolisada; interpretar o potássio com cautela.", "Em jejum."),
}
