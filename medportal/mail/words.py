"""The words of mails, in English and in Portuguese as written in Portugal (PURE).

They are for somebody of eighty: who writes, what happened, what to do, and what to do if it was
not them. A paragraph that names something in braces is left out where that is not known.

Nothing clinical, and in subjects no role, stands here: a mail may lie open on a kitchen table.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from medportal.mail.kinds import MailKind

#: What may stand in braces.
NAMES = frozenset(
    {"institution", "when", "until", "at", "factor", "count", "left", "added", "removed"}
)


@dataclass(frozen=True, slots=True)
class Words:
    """One kind of mail in one language; ``label`` is what its link is called."""

    subject: str
    happened: tuple[str, ...]
    todo: tuple[str, ...] = ()
    caution: tuple[str, ...] = ()
    label: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """What every mail of one language says around its words."""

    tag: str
    copy_link: str
    contact: str
    phone: str
    email: str
    address: str
    at_the_desk: str
    foot: tuple[str, ...]
    months: tuple[str, ...]
    date: str
    added: Mapping[str, str]
    removed: Mapping[str, str]


ENGLISH = Frame(
    tag="en-GB",
    copy_link="If the link does not open, copy this address into your browser:",
    contact="How to reach us",
    phone="Phone",
    email="Email",
    address="Address",
    at_the_desk="Ask at our desk.",
    foot=(
        "We never ask for your password by email or by phone.",
        "This message was sent automatically. Answers to it are not read.",
    ),
    months=(
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ),
    date="{day} {month} {year}, {time}",
    added={
        "totp": "an app that shows codes",
        "passkey": "a passkey",
    },
    removed={
        "totp": "the app that shows codes",
        "passkey": "a passkey",
        "all": "all of them (app, passkeys and recovery codes)",
    },
)

PORTUGUESE = Frame(
    tag="pt-PT",
    copy_link="Se a ligação não abrir, copie este endereço para o seu navegador:",
    contact="Como falar connosco",
    phone="Telefone",
    email="Email",
    address="Morada",
    at_the_desk="Pergunte na nossa receção.",
    foot=(
        "Nunca lhe pedimos a palavra-passe por email nem por telefone.",
        "Esta mensagem foi enviada automaticamente. As respostas não são lidas.",
    ),
    months=(
        "janeiro",
        "fevereiro",
        "março",
        "abril",
        "maio",
        "junho",
        "julho",
        "agosto",
        "setembro",
        "outubro",
        "novembro",
        "dezembro",
    ),
    date="{day} de {month} de {year}, às {time}",
    added={
        "totp": "uma aplicação que mostra códigos",
        "passkey": "uma chave de acesso (passkey)",
    },
    removed={
        "totp": "a aplicação que mostra códigos",
        "passkey": "uma chave de acesso (passkey)",
        "all": "todos (aplicação, chaves de acesso e códigos de recuperação)",
    },
)

_NOTHING_TO_DO = "If this was you, there is nothing that you need to do."
_TELL_US = "If it was not you, tell us at once, so that we can lock your account."
_NADA_A_FAZER = "Se foi feito por si, não precisa de fazer mais nada."
_AVISE_NOS = "Se não foi por si, avise-nos já, para podermos bloquear a sua conta."

IN_ENGLISH: Mapping[MailKind, Words] = {
    MailKind.ACTIVATION: Words(
        subject="Activate your account – {institution}",
        happened=(
            "We have opened an account for you in our portal.",
            "To use it, choose a password. You need two things: this link, and the code on the "
            "paper that you got at our desk.",
        ),
        label="Choose a password",
        todo=(
            "The link works once, until {until}.",
            "If it no longer works, or if you have no code, ask at our desk and bring "
            "your identity card.",
        ),
        caution=(
            "If you do not know us or did not expect this message, delete it: without the code "
            "from the desk nobody can use the link.",
        ),
    ),
    MailKind.RESET: Words(
        subject="Choose a new password",
        happened=(
            "We were asked for a new password for your account in our portal.",
            "If it was you who asked, open this link to choose one.",
        ),
        label="Choose a new password",
        todo=(
            "The page will ask for one more proof that it is you: a code from your app, one of "
            "your recovery codes or, if you have neither, a code from our desk.",
            "The link works once, until {until}.",
        ),
        caution=(
            "If you did not ask for this, there is nothing that you need to do: your password "
            "stays as it is, and the link alone changes nothing. If you get such messages often, "
            "tell us.",
        ),
    ),
    MailKind.EMAIL_CONFIRM: Words(
        subject="Confirm your email address",
        happened=("You asked us to write to you at this address from now on.",),
        label="Confirm this address",
        todo=(
            "You may have to sign in first: only you can confirm it.",
            "The link works once, until {until}.",
            "Until you have confirmed it, we go on writing to your old address.",
        ),
        caution=("If you did not ask for this, delete this message: nothing will be changed.",),
    ),
    MailKind.EMAIL_REQUESTED: Words(
        subject="Another email address was asked for",
        happened=(
            "On {when}, somebody who was signed in to your account in our portal asked us to "
            "write to another email address instead of this one.",
            "It counts only when it has been confirmed from that address.",
        ),
        todo=(
            "If this was you, there is nothing to do here: open the message that we sent to the "
            "new address.",
        ),
        caution=(
            "If it was not you, somebody else can use your account. Sign in, change your password "
            "and call the request off under “My account”. Or tell us at once.",
        ),
    ),
    MailKind.ERASURE_ASKED: Words(
        subject="Your records are to be erased",
        happened=(
            "On {when}, we were asked to erase the records that we keep about you.",
            "Nothing is erased before {at}, and only if a second person agrees. After that nobody "
            "can bring them back.",
        ),
        todo=(
            "If you want to keep them, take them along before: sign in to our portal, open “My "
            "record” and choose to take your records along.",
            "Other places may hold copies of what we sent them. Ask there if you want those "
            "erased too.",
        ),
        caution=("If you do not want this, or know nothing of it, tell us at once.",),
    ),
    MailKind.EMAIL_BY_STAFF: Words(
        subject="Your email address is going to be changed",
        happened=(
            "Our staff was asked to change the email address of your account in our portal, and "
            "two people have agreed to it.",
            "It will be changed on {at}. Until then we write to this address.",
        ),
        todo=("If you asked for it, there is nothing that you need to do.",),
        caution=(
            "If you did not ask for it, call it off before then: sign in and choose “My account”. "
            "Or tell us.",
        ),
    ),
    MailKind.EMAIL_CHANGED: Words(
        subject="Your email address has been changed",
        happened=(
            "The email address of your account in our portal was changed on {when}. This message "
            "goes to the old address and to the new one.",
        ),
        todo=("If you asked for it, there is nothing that you need to do.",),
        caution=("If you did not ask for it, tell us at once.",),
    ),
    MailKind.PASSWORD_CHANGED: Words(
        subject="Your password has been changed",
        happened=("The password of your account in our portal was changed on {when}.",),
        todo=(_NOTHING_TO_DO,),
        caution=(_TELL_US,),
    ),
    MailKind.SECOND_FACTOR_ADDED: Words(
        subject="A second step was added to your sign-in",
        happened=(
            "On {when}, a second step was added to signing in to your account in our portal.",
            "What was added: {factor}.",
        ),
        todo=(_NOTHING_TO_DO,),
        caution=(_TELL_US,),
    ),
    MailKind.SECOND_FACTOR_REMOVED: Words(
        subject="A second step was removed from your sign-in",
        happened=(
            "On {when}, a second step was removed from signing in to your account in our portal.",
            "What was removed: {factor}.",
        ),
        todo=(_NOTHING_TO_DO,),
        caution=(_TELL_US,),
    ),
    MailKind.RECOVERY_CODES_MADE: Words(
        subject="New recovery codes were made",
        happened=(
            "On {when}, new recovery codes were made for your account in our portal. Older ones "
            "no longer work.",
        ),
        todo=(_NOTHING_TO_DO,),
        caution=(_TELL_US,),
    ),
    MailKind.RECOVERY_CODE_USED: Words(
        subject="A recovery code was used",
        happened=(
            "On {when}, one of the recovery codes of your account in our portal was used. That "
            "code does not work again.",
            "Codes that you have left: {left}.",
        ),
        todo=("If this was you and few are left, make new ones under “My account”.",),
        caution=(_TELL_US,),
    ),
    MailKind.ROLES_CHANGED: Words(
        subject="What you can do in our portal has changed",
        happened=(
            "On {when}, what you can do in our portal was changed.",
            "Role added: {added}.",
            "Role removed: {removed}.",
        ),
        todo=("You may have to sign in again.",),
        caution=("If this looks wrong to you, tell us.",),
    ),
    MailKind.ACCOUNT_SUSPENDED: Words(
        subject="Your account has been suspended",
        happened=(
            "Your account in our portal was suspended on {when}. While it is, nobody can sign in "
            "with it. Nothing that we keep about you is lost.",
        ),
        caution=("If you do not know why, ask us.",),
    ),
    MailKind.ACCOUNT_REINSTATED: Words(
        subject="Your account can be used again",
        happened=("The suspension of your account in our portal was ended on {when}.",),
        todo=("You can sign in again as before.",),
        caution=("If you did not expect this message, tell us.",),
    ),
    MailKind.MANY_FAILURES: Words(
        subject="Many failed attempts to sign in",
        happened=(
            "Of late, many attempts to sign in to your account in our portal have failed.",
            "How many: {count}.",
        ),
        todo=(
            "If this was you, wait some minutes before you try again. If you have forgotten your "
            "password, ask for a new one on the page where you sign in, or at our desk.",
        ),
        caution=(
            "If it was not you, somebody may be guessing your password. These attempts did not "
            "open your account. A second step, which you set up under “My account”, makes it "
            "safer. If you are worried, tell us.",
        ),
    ),
    MailKind.CARE_CHANGED: Words(
        subject="Somebody may see sensitive parts of your record – {institution}",
        happened=(
            "A person or a team was put in charge of looking after you that may see the sensitive "
            "parts of your record too.",
            "When: {when}.",
        ),
        todo=(
            "If you know of it, there is nothing that you need to do.",
            "In the portal you see who looks after you, and you can make a rule against it.",
        ),
        caution=(_TELL_US,),
    ),
    MailKind.RULE_CHANGED: Words(
        subject="A rule about your record has changed – {institution}",
        happened=(
            "In our portal, a rule about who may see your record was made, changed or ended.",
            "When: {when}.",
        ),
        todo=(
            "If this was you, or somebody who represents you, there is nothing that you need to "
            "do.",
            "Your rules are in the portal, under “Who may see my record”.",
        ),
        caution=(_TELL_US,),
    ),
    MailKind.SECOND_STEP_FAILED: Words(
        subject="Somebody may know your password",
        happened=(
            "Of late, somebody gave your right password in our portal, and then codes that were "
            "not right.",
            "How many codes: {count}.",
        ),
        todo=(
            "If this was you, check that your phone's clock is set automatically, or use one of "
            "your recovery codes.",
        ),
        caution=(
            "If it was not you, somebody knows your password. These attempts did not open your "
            "account. Change your password in our portal now, under “My account”, and tell us.",
        ),
    ),
    MailKind.GLASS_BROKEN: Words(
        subject="Emergency access to your record",
        happened=(
            "On {when}, a member of our staff opened your record in our portal by emergency "
            "access. It is meant for when you need help and the people who usually look after "
            "you cannot be waited for. It ends by itself after a short time.",
        ),
        todo=(
            "To see who it was and which reason was given, sign in to our portal and choose “Who "
            "looked”.",
            "Somebody else here checks every emergency access. You need not ask for that.",
        ),
        caution=("If it looks wrong to you, say so on the same page, or tell us.",),
    ),
    MailKind.COMPLAINT_ANSWERED: Words(
        subject="We have answered your question",
        happened=(
            "You asked us about somebody's access to data in our portal. On {when}, our privacy "
            "officer answered.",
        ),
        todo=(
            "To read the answer, sign in to our portal and choose “Who looked”. Your question "
            "stands at the top of that page.",
        ),
        caution=("If the answer does not help you, ask again on the same page, or tell us.",),
    ),
    MailKind.DETAILS_CHANGED: Words(
        subject="Your details have changed",
        happened=(
            "On {when}, our desk changed what we know about you: your name, your number, your date "
            "of birth, or where your results go.",
        ),
        todo=(
            "To see what stands there now, sign in to our portal and choose “My record”. If your "
            "number was changed, sign in with the new one.",
        ),
        caution=("If this looks wrong to you, tell us.",),
    ),
    MailKind.DETAILS_ASKED: Words(
        subject="Our desk is about to change your details",
        happened=(
            "On {when}, somebody at our desk asked for another number, name or date of birth in "
            "what we know about you. It counts once a colleague has checked your card and agrees.",
        ),
        todo=("If you asked for it, there is nothing for you to do.",),
        caution=("If you know nothing of it, tell us at once.",),
    ),
    MailKind.CERTIFICATE_ENDS: Words(
        subject="A certificate is about to end",
        happened=(
            "A certificate of our portal, or its list of withdrawn ones, was not renewed in time. "
            "Days left: {count}.",
        ),
        todo=(
            "Sign in to our portal and choose “Certificates”: there it stands which one, and what "
            "is to be done. Tell whoever operates the servers.",
        ),
        caution=("Without it, records no longer travel, or people no longer reach the portal.",),
    ),
    MailKind.CERTIFICATE_ENDED: Words(
        subject="A certificate has ended",
        happened=(
            "A certificate of our portal, or its list of withdrawn ones, has ended and was not "
            "renewed.",
        ),
        todo=(
            "Sign in to our portal and choose “Certificates”: there it stands which one, and what "
            "is to be done. If you cannot sign in, call whoever operates the servers at once.",
        ),
        caution=("Records wait until it is renewed; none is lost.",),
    ),
    MailKind.RESULT_ARRIVED: Words(
        subject="There is a new result",
        happened=(
            "On {when}, there was a new result, or a change of one, in our portal: about you, or "
            "about somebody whom you look after or stand for.",
        ),
        todo=(
            "To read it, sign in to our portal. It stands at the top of the first page.",
            "Mails do not say what is in a result, and we send at most one in an hour: there may "
            "be several.",
        ),
        caution=("If you have questions about a result, ask those who look after you.",),
    ),
    MailKind.RESULT_WAITS: Words(
        subject="A result cannot wait",
        happened=(
            "In our portal there is a result of a patient of your team that cannot wait, and "
            "nobody has noted in time that they saw it.",
        ),
        todo=(
            "Sign in now and choose “New results”: it stands at the top. Read it, do what has to "
            "be done, and note there that you have seen it.",
        ),
        caution=("If you are not at work, call your team, and tell them to look.",),
    ),
    MailKind.REPRESENTATIVE_CHANGED: Words(
        subject="Who stands for you has changed",
        happened=(
            "On {when}, our desk noted that somebody stands for you in our portal, or no longer "
            "does. Whoever stands for you sees what you see, and can make rules for you.",
        ),
        todo=("To see who it is, sign in to our portal and choose “My record”.",),
        caution=("If this looks wrong to you, tell us.",),
    ),
}

IN_PORTUGUESE: Mapping[MailKind, Words] = {
    MailKind.ACTIVATION: Words(
        subject="Ative a sua conta – {institution}",
        happened=(
            "Criámos uma conta para si no nosso portal.",
            "Para a usar, escolha uma palavra-passe. Precisa de duas coisas: desta ligação e do "
            "código em papel que recebeu na nossa receção.",
        ),
        label="Escolher a palavra-passe",
        todo=(
            "A ligação funciona uma só vez, até {until}.",
            "Se já não funcionar, ou se não tiver o código, peça ajuda na nossa receção e leve o "
            "seu documento de identificação.",
        ),
        caution=(
            "Se não nos conhece ou não esperava esta mensagem, apague-a: sem o código da receção "
            "ninguém consegue usar a ligação.",
        ),
    ),
    MailKind.RESET: Words(
        subject="Escolha uma nova palavra-passe",
        happened=(
            "Recebemos um pedido de nova palavra-passe para a sua conta no nosso portal.",
            "Se foi feito por si, abra esta ligação para a escolher.",
        ),
        label="Escolher uma nova palavra-passe",
        todo=(
            "A página pede mais uma prova de que é mesmo a pessoa certa: um código da sua "
            "aplicação, um dos seus códigos de recuperação ou, se não tiver nenhum deles, um "
            "código da nossa receção.",
            "A ligação funciona uma só vez, até {until}.",
        ),
        caution=(
            "Se não fez este pedido, não precisa de fazer nada: a sua palavra-passe continua a "
            "mesma e a ligação, só por si, não altera nada. Se receber muitas mensagens destas, "
            "avise-nos.",
        ),
    ),
    MailKind.EMAIL_CONFIRM: Words(
        subject="Confirme o seu endereço de email",
        happened=("Pediu-nos que passássemos a escrever-lhe para este endereço.",),
        label="Confirmar este endereço",
        todo=(
            "Poderá ter de iniciar sessão primeiro: só o titular da conta o pode confirmar.",
            "A ligação funciona uma só vez, até {until}.",
            "Enquanto não o confirmar, continuamos a escrever para o endereço antigo.",
        ),
        caution=("Se não fez este pedido, apague esta mensagem: nada será alterado.",),
    ),
    MailKind.EMAIL_REQUESTED: Words(
        subject="Foi pedido outro endereço de email",
        happened=(
            "No dia {when}, alguém com sessão iniciada na sua conta no nosso portal pediu que "
            "passássemos a escrever para outro endereço de email em vez deste.",
            "O pedido só conta depois de confirmado a partir desse endereço.",
        ),
        todo=(
            "Se foi feito por si, não há nada a fazer aqui: abra a mensagem que enviámos para o "
            "novo endereço.",
        ),
        caution=(
            "Se não foi por si, outra pessoa consegue usar a sua conta. Inicie sessão, altere a "
            "palavra-passe e anule o pedido em «A minha conta». Ou avise-nos já.",
        ),
    ),
    MailKind.ERASURE_ASKED: Words(
        subject="Os seus registos vão ser apagados",
        happened=(
            "No dia {when}, foi-nos pedido que apagássemos os registos que temos sobre si.",
            "Nada é apagado antes de {at}, e só se uma segunda pessoa concordar. Depois disso, "
            "ninguém os pode recuperar.",
        ),
        todo=(
            "Se quiser guardá-los, leve-os consigo antes disso: inicie sessão no nosso portal, "
            "abra «O meu registo» e escolha levar os seus registos.",
            "Outros locais podem ter cópias do que lhes enviámos. Se quiser que também sejam "
            "apagadas, peça lá.",
        ),
        caution=("Se não quer isto, ou não sabe de nada, avise-nos de imediato.",),
    ),
    MailKind.EMAIL_BY_STAFF: Words(
        subject="O seu endereço de email vai ser alterado",
        happened=(
            "Foi pedida aos nossos serviços a alteração do endereço de email da sua conta no nosso "
            "portal, e duas pessoas concordaram com ela.",
            "A alteração será feita no dia {at}. Até lá escrevemos para este endereço.",
        ),
        todo=("Se o pedido foi seu, não precisa de fazer nada.",),
        caution=(
            "Se o pedido não foi seu, anule-o antes disso: inicie sessão e escolha «A minha "
            "conta». Ou avise-nos.",
        ),
    ),
    MailKind.EMAIL_CHANGED: Words(
        subject="O seu endereço de email foi alterado",
        happened=(
            "O endereço de email da sua conta no nosso portal foi alterado no dia {when}. Esta "
            "mensagem segue para o endereço antigo e para o novo.",
        ),
        todo=("Se o pedido foi seu, não precisa de fazer nada.",),
        caution=("Se o pedido não foi seu, avise-nos já.",),
    ),
    MailKind.PASSWORD_CHANGED: Words(
        subject="A sua palavra-passe foi alterada",
        happened=("A palavra-passe da sua conta no nosso portal foi alterada no dia {when}.",),
        todo=(_NADA_A_FAZER,),
        caution=(_AVISE_NOS,),
    ),
    MailKind.SECOND_FACTOR_ADDED: Words(
        subject="Foi acrescentado um segundo passo ao seu início de sessão",
        happened=(
            "No dia {when}, foi acrescentado um segundo passo ao início de sessão na sua conta no "
            "nosso portal.",
            "O que foi acrescentado: {factor}.",
        ),
        todo=(_NADA_A_FAZER,),
        caution=(_AVISE_NOS,),
    ),
    MailKind.SECOND_FACTOR_REMOVED: Words(
        subject="Foi retirado um segundo passo do seu início de sessão",
        happened=(
            "No dia {when}, foi retirado um segundo passo do início de sessão na sua conta no "
            "nosso portal.",
            "O que foi retirado: {factor}.",
        ),
        todo=(_NADA_A_FAZER,),
        caution=(_AVISE_NOS,),
    ),
    MailKind.RECOVERY_CODES_MADE: Words(
        subject="Foram criados novos códigos de recuperação",
        happened=(
            "No dia {when}, foram criados novos códigos de recuperação para a sua conta no nosso "
            "portal. Os anteriores deixaram de funcionar.",
        ),
        todo=(_NADA_A_FAZER,),
        caution=(_AVISE_NOS,),
    ),
    MailKind.RECOVERY_CODE_USED: Words(
        subject="Foi usado um código de recuperação",
        happened=(
            "No dia {when}, foi usado um dos códigos de recuperação da sua conta no nosso portal. "
            "Esse código não volta a funcionar.",
            "Códigos que ainda tem: {left}.",
        ),
        todo=("Se foi usado por si e restam poucos, crie novos em «A minha conta».",),
        caution=(_AVISE_NOS,),
    ),
    MailKind.ROLES_CHANGED: Words(
        subject="O que pode fazer no nosso portal mudou",
        happened=(
            "No dia {when}, foi alterado o que pode fazer no nosso portal.",
            "Função acrescentada: {added}.",
            "Função retirada: {removed}.",
        ),
        todo=("Poderá ter de iniciar sessão de novo.",),
        caution=("Se isto lhe parece errado, avise-nos.",),
    ),
    MailKind.ACCOUNT_SUSPENDED: Words(
        subject="A sua conta foi suspensa",
        happened=(
            "A sua conta no nosso portal foi suspensa no dia {when}. Enquanto estiver suspensa, "
            "ninguém pode iniciar sessão com ela. Nada do que guardamos sobre si se perde.",
        ),
        caution=("Se não sabe porquê, pergunte-nos.",),
    ),
    MailKind.ACCOUNT_REINSTATED: Words(
        subject="A sua conta pode voltar a ser usada",
        happened=("A suspensão da sua conta no nosso portal terminou no dia {when}.",),
        todo=("Pode iniciar sessão como antes.",),
        caution=("Se não esperava esta mensagem, avise-nos.",),
    ),
    MailKind.MANY_FAILURES: Words(
        subject="Muitas tentativas falhadas de iniciar sessão",
        happened=(
            "Nos últimos tempos, falharam muitas tentativas de iniciar sessão na sua conta no "
            "nosso portal.",
            "Número de tentativas: {count}.",
        ),
        todo=(
            "Se foram suas, espere alguns minutos antes de tentar de novo. Se se esqueceu da "
            "palavra-passe, peça uma nova na página de início de sessão ou na nossa receção.",
        ),
        caution=(
            "Se não foram suas, alguém pode estar a tentar adivinhar a sua palavra-passe. Nenhuma "
            "destas tentativas abriu a sua conta. Um segundo passo, que pode criar em «A minha "
            "conta», torna-a mais segura. Se isto o preocupa, avise-nos.",
        ),
    ),
    MailKind.CARE_CHANGED: Words(
        subject="Alguém pode ver partes sensíveis do seu registo – {institution}",
        happened=(
            "Foi encarregada dos seus cuidados uma pessoa ou equipa que pode ver também as partes "
            "sensíveis do seu registo.",
            "Quando: {when}.",
        ),
        todo=(
            "Se tem conhecimento disto, não precisa de fazer nada.",
            "No portal pode ver quem cuida de si e criar uma regra em contrário.",
        ),
        caution=(_AVISE_NOS,),
    ),
    MailKind.RULE_CHANGED: Words(
        subject="Mudou uma regra sobre o seu registo – {institution}",
        happened=(
            "No nosso portal, foi criada, alterada ou terminada uma regra sobre quem pode ver o "
            "seu registo.",
            "Quando: {when}.",
        ),
        todo=(
            "Se foi feito por si, ou por quem o representa, não precisa de fazer mais nada.",
            "As suas regras estão no portal, em «Quem pode ver o meu registo».",
        ),
        caution=(_AVISE_NOS,),
    ),
    MailKind.SECOND_STEP_FAILED: Words(
        subject="Alguém pode saber a sua palavra-passe",
        happened=(
            "Nos últimos tempos, alguém indicou corretamente a sua palavra-passe no nosso portal "
            "e, a seguir, códigos errados.",
            "Número de códigos: {count}.",
        ),
        todo=(
            "Se foram introduzidos por si, verifique se o relógio do seu telemóvel se acerta "
            "automaticamente, ou use um dos seus códigos de recuperação.",
        ),
        caution=(
            "Se não foram, alguém sabe a sua palavra-passe. Nenhuma destas tentativas abriu a sua "
            "conta. Altere já a palavra-passe no nosso portal, em «A minha conta», e avise-nos.",
        ),
    ),
    MailKind.GLASS_BROKEN: Words(
        subject="Acesso de emergência ao seu registo",
        happened=(
            "No dia {when}, alguém da nossa equipa abriu o seu registo no nosso portal através "
            "do acesso de emergência. Este acesso serve para quando precisa de ajuda e não é "
            "possível esperar por quem o costuma acompanhar. Termina por si ao fim de pouco tempo.",
        ),
        todo=(
            "Para ver quem foi e que motivo indicou, inicie sessão no nosso portal e escolha «Quem "
            "consultou».",
            "Todos os acessos de emergência são verificados por outra pessoa. Não precisa de o "
            "pedir.",
        ),
        caution=("Se lhe parecer errado, diga-o nessa mesma página, ou avise-nos.",),
    ),
    MailKind.COMPLAINT_ANSWERED: Words(
        subject="Respondemos à sua pergunta",
        happened=(
            "Fez-nos uma pergunta sobre um acesso a dados no nosso portal. O nosso encarregado da "
            "proteção de dados respondeu no dia {when}.",
        ),
        todo=(
            "Para ler a resposta, inicie sessão no nosso portal e escolha «Quem consultou». A sua "
            "pergunta está no início dessa página.",
        ),
        caution=(
            "Se a resposta não o esclarecer, pergunte de novo nessa mesma página, ou fale "
            "connosco.",
        ),
    ),
    MailKind.DETAILS_CHANGED: Words(
        subject="Os seus dados mudaram",
        happened=(
            "No dia {when}, a nossa receção alterou o que sabemos sobre si: o nome, o número, a "
            "data de nascimento ou o destino dos seus resultados.",
        ),
        todo=(
            "Para ver o que está registado agora, inicie sessão no nosso portal e escolha «O meu "
            "registo». Se o seu número mudou, inicie sessão com o novo.",
        ),
        caution=("Se isto lhe parece errado, avise-nos.",),
    ),
    MailKind.DETAILS_ASKED: Words(
        subject="A nossa receção vai alterar os seus dados",
        happened=(
            "No dia {when}, alguém na nossa receção pediu que o número, o nome ou a data de "
            "nascimento que temos sobre si fossem alterados. A alteração só conta depois de um "
            "colega verificar o seu cartão e concordar.",
        ),
        todo=("Se foi a seu pedido, não precisa de fazer nada.",),
        caution=("Se não sabe de nada, avise-nos de imediato.",),
    ),
    MailKind.CERTIFICATE_ENDS: Words(
        subject="Um certificado está prestes a terminar",
        happened=(
            "Um certificado do nosso portal, ou a lista dos certificados revogados, não foi "
            "renovado a tempo. Dias que faltam: {count}.",
        ),
        todo=(
            "Inicie sessão no nosso portal e escolha «Certificados»: aí está indicado qual é e o "
            "que há a fazer. Avise quem opera os servidores.",
        ),
        caution=(
            "Sem ele, os registos deixam de circular ou as pessoas deixam de chegar ao portal.",
        ),
    ),
    MailKind.CERTIFICATE_ENDED: Words(
        subject="Um certificado terminou",
        happened=(
            "Um certificado do nosso portal, ou a lista dos certificados revogados, terminou e "
            "não foi renovado.",
        ),
        todo=(
            "Inicie sessão no nosso portal e escolha «Certificados»: aí está indicado qual é e o "
            "que há a fazer. Se não conseguir entrar, ligue já a quem opera os servidores.",
        ),
        caution=("Os registos esperam até que seja renovado; nenhum se perde.",),
    ),
    MailKind.RESULT_ARRIVED: Words(
        subject="Há um novo resultado",
        happened=(
            "No dia {when}, passou a haver um novo resultado, ou uma alteração a um resultado, no "
            "nosso portal: sobre si, ou sobre alguém que acompanha ou representa.",
        ),
        todo=(
            "Para o ler, inicie sessão no nosso portal. Está no início da primeira página.",
            "Os emails não dizem o que está num resultado, e enviamos no máximo um por hora: pode "
            "haver vários.",
        ),
        caution=("Se tiver dúvidas sobre um resultado, fale com quem o acompanha.",),
    ),
    MailKind.RESULT_WAITS: Words(
        subject="Um resultado não pode esperar",
        happened=(
            "No nosso portal há um resultado de um doente da sua equipa que não pode esperar, e "
            "ninguém registou a tempo que o viu.",
        ),
        todo=(
            "Inicie sessão já e escolha «Novos resultados»: está no início. Leia-o, faça o que for "
            "preciso e registe aí que o viu.",
        ),
        caution=("Se não estiver ao serviço, ligue à sua equipa e peça que vejam.",),
    ),
    MailKind.REPRESENTATIVE_CHANGED: Words(
        subject="Mudou quem o representa",
        happened=(
            "No dia {when}, a nossa receção registou que alguém o representa no nosso portal, ou "
            "que deixou de o representar. Quem o representa vê o que vê, e pode criar regras em "
            "seu nome.",
        ),
        todo=("Para ver quem é, inicie sessão no nosso portal e escolha «O meu registo».",),
        caution=("Se isto lhe parece errado, avise-nos.",),
    ),
}

FRAMES: Mapping[str, Frame] = {"en": ENGLISH, "pt": PORTUGUESE}
WORDS: Mapping[str, Mapping[MailKind, Words]] = {"en": IN_ENGLISH, "pt": IN_PORTUGUESE}
