//! The words of the identity pages and of the mail that brings a code, in four languages.
//!
//! The rule: a sentence is written whole in each language and filled in afterwards, never put together
//! from parts; what is filled in stands in braces. A language that is missing reads English. How a page or
//! a mail looks is its template's business, which also escapes what is filled in.

use super::Locale;

/// Every sentence, in one language.
pub struct IdentityWords {
    /// BCP 47 tag, for `lang` attributes.
    pub lang: &'static str,
    /// The banner of test mode.
    pub test_mode: &'static str,
    /// Before the session's id.
    pub reference: &'static str,
    /// Heading of the page that offers to send a code.
    pub ask_title: &'static str,
    /// What the page is about: {merchant}.
    pub ask_lead: &'static str,
    /// What the button does: {address}.
    pub ask_note: &'static str,
    /// The button.
    pub send: &'static str,
    /// The button after it was pressed.
    pub sending: &'static str,
    /// Heading of the page that takes the code.
    pub code_title: &'static str,
    /// Where the code went: {address}.
    pub code_lead: &'static str,
    /// The mail server does not answer.
    pub slow: &'static str,
    /// Label of the input.
    pub code_label: &'static str,
    /// How long the code lasts: {minutes}.
    pub code_hint: &'static str,
    /// The button.
    pub confirm: &'static str,
    /// The button after it was pressed.
    pub confirming: &'static str,
    /// Not eight digits.
    pub malformed: &'static str,
    /// A wrong code: {tries}, two or more.
    pub wrong: &'static str,
    /// A wrong code with one try left.
    pub wrong_last: &'static str,
    /// No code is out that this browser could use.
    pub dead: &'static str,
    /// Too soon for another code: {seconds}.
    pub wait: &'static str,
    /// Offers another code.
    pub resend_note: &'static str,
    /// The same while it is too soon: {seconds}.
    pub resend_wait: &'static str,
    /// The button.
    pub resend: &'static str,
    /// The code that is out is the last one.
    pub last_code: &'static str,
    /// For one whose address it is not: {merchant}.
    pub not_yours: &'static str,
    /// Heading when no code is left.
    pub spent_title: &'static str,
    /// What to do then: {merchant}.
    pub spent_lead: &'static str,
    /// Heading when too many codes were asked for.
    pub busy_title: &'static str,
    /// What to do then.
    pub busy_lead: &'static str,
    /// Nothing has happened.
    pub nothing_done: &'static str,
    /// Subject of the mail: {merchant}.
    pub mail_subject: &'static str,
    /// First line of the mail: {merchant}.
    pub mail_intro: &'static str,
    /// What the code lets do: a payment of {amount}.
    pub mail_act: &'static str,
    /// The same for escrow acts by their names: {amount} is the escrow's.
    pub mail_acts: [(&'static str, &'static str); 8],
    /// Where the code belongs: {minutes}.
    pub mail_how: &'static str,
    /// Keep it to yourself: {merchant}.
    pub mail_secret: &'static str,
    /// If it was not you.
    pub mail_not_you: &'static str,
    /// Whom to ask: {support}.
    pub mail_support: &'static str,
}

impl IdentityWords {
    /// The words for a locale.
    pub fn of(locale: &Locale) -> &'static Self {
        match locale.language() {
            "de" => &GERMAN,
            "fr" => &FRENCH,
            "es" => &SPANISH,
            _ => &ENGLISH,
        }
    }

    /// What the code lets do: an escrow act by its name, or a payment.
    pub fn act(&self, action: Option<&str>) -> &'static str {
        let known = |action| self.mail_acts.iter().find(|(name, _)| *name == action).map(|(_, sentence)| *sentence);
        action.and_then(known).unwrap_or(self.mail_act)
    }
}

/// Fills in what stands in braces. What is filled in is not looked at again, so a name with braces in it
/// stays a name.
pub fn fill(sentence: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(sentence.len() + 32);
    let mut rest = sentence;
    while let Some((before, behind)) = rest.split_once('{') {
        let Some((name, after)) = behind.split_once('}') else { break };
        text.push_str(before);
        text.push_str(values.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value));
        rest = after;
    }
    text.push_str(rest);
    text
}

const ENGLISH: IdentityWords = IdentityWords {
    lang: "en",
    test_mode: "Test mode. No real money moves.",
    reference: "Reference",
    ask_title: "Confirm that it is you",
    ask_lead: "{merchant} made this link for one person.",
    ask_note: "We send a code of 8 digits to {address}. Type it here, and you go on in this browser.",
    send: "Send the code",
    sending: "Sending…",
    code_title: "Enter the code",
    code_lead: "A code of 8 digits is on its way to {address}. It can take a minute; look into the spam folder, too.",
    slow: "The mail server does not answer just now. Your code is kept and sent as soon as it does. Nothing is lost.",
    code_label: "Code from the mail",
    code_hint: "8 digits. Valid for {minutes} min.",
    confirm: "Confirm",
    confirming: "Checking…",
    malformed: "Enter the 8 digits from the mail.",
    wrong: "That is not the code. You have {tries} tries left.",
    wrong_last: "That is not the code. You have one try left.",
    dead: "That code cannot be used here any more. Ask for a new one.",
    wait: "Wait {seconds} seconds, then ask for a new code.",
    resend_note: "No mail? A new code takes the place of this one.",
    resend_wait: "No mail? You can ask for a new code in {seconds} seconds.",
    resend: "Send a new code",
    last_code: "This is the last code for this link.",
    not_yours: "Not your address? Ask {merchant} for a link of your own.",
    spent_title: "This link has no codes left",
    spent_lead: "All its codes were used or ran out. Ask {merchant} for a new link.",
    busy_title: "Too many codes were asked for",
    busy_lead: "No further code is sent for now. Try again in an hour.",
    nothing_done: "Nothing was done and no money was taken.",
    mail_subject: "Your code for {merchant}",
    mail_intro: "Your code for {merchant}",
    mail_act: "It confirms that it is you who pays {amount}.",
    mail_acts: [
        ("sign_contract", "It confirms that it is you who signs the contract about {amount}."),
        ("accept_pay", "It confirms that it is you who accepts and pays {amount}."),
        ("complete", "It confirms that it is you who releases {amount}."),
        ("dispute", "It confirms that it is you who opens a dispute about {amount}."),
        ("request_cancellation", "It confirms that it is you who asks to cancel the deal about {amount}."),
        ("accept_cancellation", "It confirms that it is you who agrees to cancel the deal about {amount}."),
        ("reject_cancellation", "It confirms that it is you who refuses to cancel the deal about {amount}."),
        ("cancel_escrow", "It confirms that it is you who cancels the deal about {amount}."),
    ],
    mail_how: "Type it into the page on which you asked for it, in the same browser. It is valid for {minutes} minutes.",
    mail_secret: "Nobody from {merchant} or from us will ask you for it. Do not pass it on.",
    mail_not_you: "It was not you? Then you need do nothing: without the code nothing happens.",
    mail_support: "Questions: {support}",
};

const GERMAN: IdentityWords = IdentityWords {
    lang: "de",
    test_mode: "Testmodus. Es fließt kein echtes Geld.",
    reference: "Kennung",
    ask_title: "Bestätigen Sie, dass Sie es sind",
    ask_lead: "{merchant} hat diesen Link für eine bestimmte Person erstellt.",
    ask_note: "Wir senden einen Code mit 8 Ziffern an {address}. Geben Sie ihn hier ein, dann geht es in diesem Browser weiter.",
    send: "Code senden",
    sending: "Wird gesendet …",
    code_title: "Code eingeben",
    code_lead: "Ein Code mit 8 Ziffern ist an {address} unterwegs. Das kann eine Minute dauern; sehen Sie auch im Spam-Ordner nach.",
    slow: "Der Mailserver antwortet gerade nicht. Ihr Code ist aufgehoben und wird gesendet, sobald er antwortet. Nichts geht verloren.",
    code_label: "Code aus der E-Mail",
    code_hint: "8 Ziffern. Noch {minutes} Min. gültig.",
    confirm: "Bestätigen",
    confirming: "Wird geprüft …",
    malformed: "Geben Sie die 8 Ziffern aus der E-Mail ein.",
    wrong: "Das ist nicht der Code. Sie haben noch {tries} Versuche.",
    wrong_last: "Das ist nicht der Code. Sie haben noch einen Versuch.",
    dead: "Dieser Code gilt hier nicht mehr. Fordern Sie einen neuen an.",
    wait: "Warten Sie {seconds} Sekunden, dann fordern Sie einen neuen Code an.",
    resend_note: "Keine E-Mail? Ein neuer Code ersetzt diesen.",
    resend_wait: "Keine E-Mail? In {seconds} Sekunden können Sie einen neuen Code anfordern.",
    resend: "Neuen Code senden",
    last_code: "Das ist der letzte Code für diesen Link.",
    not_yours: "Nicht Ihre Adresse? Bitten Sie {merchant} um einen eigenen Link.",
    spent_title: "Für diesen Link gibt es keine Codes mehr",
    spent_lead: "Alle Codes sind verbraucht oder abgelaufen. Bitten Sie {merchant} um einen neuen Link.",
    busy_title: "Es wurden zu viele Codes angefordert",
    busy_lead: "Vorerst wird kein weiterer Code gesendet. Versuchen Sie es in einer Stunde wieder.",
    nothing_done: "Es ist nichts geschehen, und es wurde kein Geld abgebucht.",
    mail_subject: "Ihr Code für {merchant}",
    mail_intro: "Ihr Code für {merchant}",
    mail_act: "Er bestätigt, dass Sie es sind, der {amount} bezahlt.",
    mail_acts: [
        ("sign_contract", "Er bestätigt, dass Sie es sind, der den Vertrag über {amount} unterschreibt."),
        ("accept_pay", "Er bestätigt, dass Sie es sind, der annimmt und {amount} bezahlt."),
        ("complete", "Er bestätigt, dass Sie es sind, der {amount} freigibt."),
        ("dispute", "Er bestätigt, dass Sie es sind, der das Geschäft über {amount} beanstandet."),
        ("request_cancellation", "Er bestätigt, dass Sie es sind, der das Geschäft über {amount} stornieren möchte."),
        (
            "accept_cancellation",
            "Er bestätigt, dass Sie es sind, der der Stornierung des Geschäfts über {amount} zustimmt.",
        ),
        (
            "reject_cancellation",
            "Er bestätigt, dass Sie es sind, der die Stornierung des Geschäfts über {amount} ablehnt.",
        ),
        ("cancel_escrow", "Er bestätigt, dass Sie es sind, der das Geschäft über {amount} storniert."),
    ],
    mail_how: "Geben Sie ihn auf der Seite ein, auf der Sie ihn angefordert haben, im selben Browser. Er gilt {minutes} Minuten.",
    mail_secret: "Niemand von {merchant} oder von uns wird Sie danach fragen. Geben Sie ihn nicht weiter.",
    mail_not_you: "Das waren nicht Sie? Dann müssen Sie nichts tun: Ohne den Code geschieht nichts.",
    mail_support: "Fragen: {support}",
};

const FRENCH: IdentityWords = IdentityWords {
    lang: "fr",
    test_mode: "Mode test. Aucun argent réel n’est déplacé.",
    reference: "Référence",
    ask_title: "Confirmez que c’est bien vous",
    ask_lead: "{merchant} a créé ce lien pour une seule personne.",
    ask_note: "Nous envoyons un code à 8 chiffres à {address}. Saisissez-le ici pour continuer dans ce navigateur.",
    send: "Envoyer le code",
    sending: "Envoi…",
    code_title: "Saisissez le code",
    code_lead: "Un code à 8 chiffres est en route vers {address}. Cela peut prendre une minute ; regardez aussi dans les indésirables.",
    slow: "Le serveur de messagerie ne répond pas pour le moment. Votre code est conservé et partira dès qu’il répondra. Rien n’est perdu.",
    code_label: "Code reçu par e-mail",
    code_hint: "8 chiffres. Valable encore {minutes} min.",
    confirm: "Confirmer",
    confirming: "Vérification…",
    malformed: "Saisissez les 8 chiffres reçus par e-mail.",
    wrong: "Ce n’est pas le code. Il vous reste {tries} essais.",
    wrong_last: "Ce n’est pas le code. Il vous reste un essai.",
    dead: "Ce code n’est plus valable ici. Demandez-en un nouveau.",
    wait: "Attendez {seconds} secondes, puis demandez un nouveau code.",
    resend_note: "Pas d’e-mail ? Un nouveau code remplace celui-ci.",
    resend_wait: "Pas d’e-mail ? Vous pourrez demander un nouveau code dans {seconds} secondes.",
    resend: "Envoyer un nouveau code",
    last_code: "C’est le dernier code pour ce lien.",
    not_yours: "Ce n’est pas votre adresse ? Demandez à {merchant} votre propre lien.",
    spent_title: "Il n’y a plus de code pour ce lien",
    spent_lead: "Tous les codes ont été utilisés ou ont expiré. Demandez un nouveau lien à {merchant}.",
    busy_title: "Trop de codes ont été demandés",
    busy_lead: "Aucun autre code n’est envoyé pour l’instant. Réessayez dans une heure.",
    nothing_done: "Rien n’a été fait et aucun argent n’a été prélevé.",
    mail_subject: "Votre code pour {merchant}",
    mail_intro: "Votre code pour {merchant}",
    mail_act: "Il confirme que c’est bien vous qui payez {amount}.",
    mail_acts: [
        ("sign_contract", "Il confirme que c’est bien vous qui signez le contrat portant sur {amount}."),
        ("accept_pay", "Il confirme que c’est bien vous qui acceptez et payez {amount}."),
        ("complete", "Il confirme que c’est bien vous qui libérez {amount}."),
        ("dispute", "Il confirme que c’est bien vous qui ouvrez un litige portant sur {amount}."),
        (
            "request_cancellation",
            "Il confirme que c’est bien vous qui demandez l’annulation de l’affaire portant sur {amount}.",
        ),
        (
            "accept_cancellation",
            "Il confirme que c’est bien vous qui acceptez l’annulation de l’affaire portant sur {amount}.",
        ),
        (
            "reject_cancellation",
            "Il confirme que c’est bien vous qui refusez l’annulation de l’affaire portant sur {amount}.",
        ),
        ("cancel_escrow", "Il confirme que c’est bien vous qui annulez l’affaire portant sur {amount}."),
    ],
    mail_how: "Saisissez-le sur la page où vous l’avez demandé, dans le même navigateur. Il est valable {minutes} minutes.",
    mail_secret: "Personne chez {merchant} ni chez nous ne vous le demandera. Ne le transmettez pas.",
    mail_not_you: "Ce n’était pas vous ? Vous n’avez rien à faire : sans le code, rien ne se passe.",
    mail_support: "Questions : {support}",
};

const SPANISH: IdentityWords = IdentityWords {
    lang: "es",
    test_mode: "Modo de prueba. No se mueve dinero real.",
    reference: "Referencia",
    ask_title: "Confirme que es usted",
    ask_lead: "{merchant} ha creado este enlace para una sola persona.",
    ask_note: "Enviamos un código de 8 dígitos a {address}. Escríbalo aquí para continuar en este navegador.",
    send: "Enviar el código",
    sending: "Enviando…",
    code_title: "Escriba el código",
    code_lead: "Un código de 8 dígitos va de camino a {address}. Puede tardar un minuto; mire también en el correo no deseado.",
    slow: "El servidor de correo no responde en este momento. Su código está guardado y se enviará en cuanto responda. No se pierde nada.",
    code_label: "Código del correo",
    code_hint: "8 dígitos. Válido {minutes} min más.",
    confirm: "Confirmar",
    confirming: "Comprobando…",
    malformed: "Escriba los 8 dígitos del correo.",
    wrong: "Ese no es el código. Le quedan {tries} intentos.",
    wrong_last: "Ese no es el código. Le queda un intento.",
    dead: "Ese código ya no sirve aquí. Pida uno nuevo.",
    wait: "Espere {seconds} segundos y pida un código nuevo.",
    resend_note: "¿No llega? Un código nuevo sustituye a este.",
    resend_wait: "¿No llega? Podrá pedir un código nuevo dentro de {seconds} segundos.",
    resend: "Enviar un código nuevo",
    last_code: "Este es el último código para este enlace.",
    not_yours: "¿No es su dirección? Pida a {merchant} un enlace propio.",
    spent_title: "Este enlace ya no tiene códigos",
    spent_lead: "Todos sus códigos se usaron o caducaron. Pida a {merchant} un enlace nuevo.",
    busy_title: "Se han pedido demasiados códigos",
    busy_lead: "Por ahora no se envía ninguno más. Inténtelo de nuevo dentro de una hora.",
    nothing_done: "No se ha hecho nada ni se ha cobrado dinero.",
    mail_subject: "Su código para {merchant}",
    mail_intro: "Su código para {merchant}",
    mail_act: "Confirma que es usted quien paga {amount}.",
    mail_acts: [
        ("sign_contract", "Confirma que es usted quien firma el contrato por {amount}."),
        ("accept_pay", "Confirma que es usted quien acepta y paga {amount}."),
        ("complete", "Confirma que es usted quien libera {amount}."),
        ("dispute", "Confirma que es usted quien abre una disputa por {amount}."),
        ("request_cancellation", "Confirma que es usted quien pide cancelar la operación por {amount}."),
        ("accept_cancellation", "Confirma que es usted quien acepta cancelar la operación por {amount}."),
        ("reject_cancellation", "Confirma que es usted quien rechaza cancelar la operación por {amount}."),
        ("cancel_escrow", "Confirma que es usted quien cancela la operación por {amount}."),
    ],
    mail_how: "Escríbalo en la página en la que lo pidió, en el mismo navegador. Es válido durante {minutes} minutos.",
    mail_secret: "Nadie de {merchant} ni de nosotros se lo pedirá. No se lo dé a nadie.",
    mail_not_you: "¿No fue usted? No tiene que hacer nada: sin el código no ocurre nada.",
    mail_support: "Preguntas: {support}",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_fills_in_the_same_and_none_is_left_empty() {
        let all = [&ENGLISH, &GERMAN, &FRENCH, &SPANISH];
        let braces = |text: &str| {
            let mut names: Vec<String> = text
                .split('{')
                .skip(1)
                .filter_map(|part| part.split_once('}'))
                .map(|(name, _)| name.to_owned())
                .collect();
            names.sort();
            names
        };
        let sentences = |words: &IdentityWords| {
            let mut all = vec![
                words.ask_lead,
                words.ask_note,
                words.code_lead,
                words.code_hint,
                words.wrong,
                words.wait,
                words.resend_wait,
                words.not_yours,
                words.spent_lead,
                words.mail_subject,
                words.mail_intro,
                words.mail_act,
                words.mail_how,
                words.mail_secret,
                words.mail_support,
                words.slow,
                words.dead,
            ];
            all.extend(words.mail_acts.iter().map(|(_, sentence)| *sentence));
            all
        };
        for words in all {
            for (theirs, english) in sentences(words).into_iter().zip(sentences(&ENGLISH)) {
                assert!(!theirs.is_empty());
                assert_eq!(braces(theirs), braces(english), "{}: {theirs}", words.lang);
            }
            let names = |words: &IdentityWords| words.mail_acts.map(|(name, _)| name);
            assert_eq!(names(words), names(&ENGLISH), "{}", words.lang);
        }
    }

    #[test]
    fn a_locale_finds_its_language_and_others_read_english() {
        for (tag, lang) in [("de-CH", "de"), ("fr-CA", "fr"), ("es-419", "es"), ("en-GB", "en"), ("ja", "en")] {
            assert_eq!(IdentityWords::of(&Locale::parse(tag).expect(tag)).lang, lang, "{tag}");
        }
    }

    #[test]
    fn what_is_filled_in_is_not_looked_at_again() {
        assert_eq!(fill("{a} and {b}{c}", &[("a", "{b}"), ("b", "x")]), "{b} and x");
        assert_eq!(fill("open {", &[]), "open {");
    }
}
