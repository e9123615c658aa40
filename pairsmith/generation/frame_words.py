"""The words by which `frames` knows what a model says about its rewrite, language by language.

A language is added as one more entry of `TONGUES`; nothing else names a language.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tongue:
    """A language's words, each as a regular expression in lower case.

    `yes`: agreement; `here`: what shows something; `changed`: what an answer is after a rewrite; `answer`: names of an
    answer; `version`: names of one that may be a version of anything; `rewrite`: names of a rewrite; `done`: a heading
    such as "Improved:"; `of`: what joins a version and an answer; `did`: "I changed"; `more`: "made it more";
    `original`: the text before; `gained`: what a text has more of; `became`: "has been"; `hope`: "I hope"; `this`: how
    a remark on an answer begins; `offer`: "let me know about other changes"; `note`, `changes`: headings of a remark,
    and of a list of changes; `whose`: what stands before the answer that was changed; `onward`: a lookahead for what
    may follow it, so that it is no "answer key" or "answer to B"; `given`: "here you go"; `improvements`: a heading of
    changes only where it heads the last list; `edits`: how a question asks for a changed text.
    """

    yes: str
    here: str
    changed: str
    answer: str
    version: str
    rewrite: str
    done: str
    of: str
    did: str
    more: str
    original: str
    gained: str
    became: str
    hope: str
    this: str
    offer: str
    note: str
    changes: str
    whose: str
    onward: str
    given: str
    improvements: str
    edits: str


TONGUES = {
    "English": Tongue(
        yes=r"sure(?: thing)?|certainly|of course|absolutely|definitely|okay|ok|alright|great|gladly|understood|"
        r"got it|"
        r"with pleasure|no problem",
        here=r"here(?: is|['’]s| are)|below(?: is|['’]s)|this is|the following is|following is|i present",
        changed=r"improved|enhanced|revised|re-?written|reworked|refined|updated|better|expanded|polished|edited|"
        r"modified|"
        r"upgraded|rephrased|reworded|extended|enriched|elaborated|new|(?:more|less) [a-z-]+|clearer|deeper|"
        r"richer|longer",
        answer=r"answer|response|reply|completion",
        version=r"version|draft",
        rewrite=r"rewrite|rewriting|revision|rewording",
        done=r"improved|revised|rewritten|enhanced|reworded",
        of=r"of (?:the|your|this|that|my) (?:(?:original|given|previous|earlier|above|first) )?",
        did=r"i(?:['’]ve| have)? (?:also )?(?:made|added|expanded|included|improved|rewrote|rewritten|revised|"
        r"enhanced|changed|"
        r"clarified|rephrased|reworded|elaborated|kept|removed|adjusted|restructured|incorporated|refined|updated|"
        r"enriched|"
        r"deepened|tried to (?:make|keep|improve)|aimed to (?:make|keep|improve))",
        more=r"(?:made|make|making) (?:it|the text) (?:more|less|better|clearer|richer|deeper|longer|easier)|"
        r"this version is (?:now )?more (?:helpful|relevant|detailed|creative|thorough)[^\n]{0,60}? than the original",
        original=r"the original(?: one| text| version)?",
        gained=r"details?|context|examples?|clarity|explanations?|depth|nuance|information",
        became=r"(?:has been|have been|was|were|is now)",
        hope=r"i hope|hopefully",
        this=r"this|the",
        offer=r"let me know if[^\n]{0,60}\b(?:further|more|other|additional) (?:changes|adjustments|edits|revisions|"
        r"modifications|improvements|refinements)",
        note=r"note|please note|notes|remark|comment|p\.? ?s\.?",
        changes=r"(?:the |key )?(?:changes|improvements)(?: i(?:['’]ve)?)? made|what i(?:['’]ve| have)? (?:changed|"
        r"improved)|"
        r"explanation of (?:the )?(?:changes|improvements)|summary of (?:the )?changes|(?:reasons|"
        r"rationale) for (?:the )?"
        r"changes",
        whose=r"the|your|my|this|that",
        onward=r"(?=\s*(?:[.,;:!?…)*_\]]|\Z)|\n| (?:by|with|so|while|more|using|based|accordingly|further|through|"
        r"to (?:be|make|include|cover|give|provide|add|address|explain|improve|offer|reflect|go)|"
        r"for (?:more |greater |better )?(?:clarity|details?|depth|readability|you)|"
        r"and (?:added|made|included|expanded|gave|kept|removed))\b)",
        given=r"here you go|here you are",
        improvements=r"(?:key |main |my )?(?:improvements|changes)",
        edits=r"(?:fix|correct|debug|re-?write|rephrase|reword|revise|refactor|improve|edit|proofread)"
        r"(?: up)?(?:\s*(?:[:.]|\n|\Z)| (?:the|this|that|my|our|it|these|any|all|some|following|each|an?)\b)",
    ),
    "German": Tongue(
        yes=r"natürlich|gern(?:e)?|selbstverständlich|klar|sicher|aber sicher|okay|ok|in ordnung|verstanden",
        here=r"hier(?: ist| sind| kommt| folgt| findest du| finden sie)?|nachfolgend(?: ist)?|im folgenden|"
        r"das ist|dies ist|"
        r"es folgt",
        changed=r"verbesserte?[nrs]?|überarbeitete?[nrs]?|umgeschriebene?[nrs]?|erweiterte?[nrs]?|"
        r"ausführlichere?[nrs]?|"
        r"optimierte?[nrs]?|bessere?[nrs]?|neue?[nrs]?|neu formulierte?[nrs]?|detailliertere?[nrs]?|"
        r"hilfreichere?[nrs]?|"
        r"klarere?[nrs]?|aktualisierte?[nrs]?|ergänzte?[nrs]?",
        answer=r"antwort|erwiderung",
        version=r"version|fassung|variante",
        rewrite=r"überarbeitung|neufassung",
        done=r"verbessert|überarbeitet|umgeschrieben|neu formuliert",
        of=r"(?:der|deiner|ihrer|dieser|von der) (?:(?:ursprünglichen|gegebenen|vorherigen|ersten) )?",
        did=r"(?:ich habe|habe ich)\b[^\n]{0,160}?\b(?:ergänzt|erweitert|hinzugefügt|überarbeitet|verbessert|"
        r"umformuliert|"
        r"umgeschrieben|ausgebaut|gemacht|gestaltet|präzisiert|vertieft|angepasst|eingefügt|ausgeführt)",
        more=r"ich habe (?:sie|es|den text|das) (?:ausführlicher|hilfreicher|genauer|klarer|besser|durch|um|mit)",
        original=r"(?:das|dem|des|die) (?:original|ursprüngliche[n]? fassung)",
        gained=r"details?|einzelheiten|beispiele?n?|kontext|erklärung(?:en)?|informationen|klarheit",
        became=r"(?:wurde|ist nun|ist jetzt)",
        hope=r"ich hoffe|hoffentlich",
        this=r"diese|die",
        offer=r"(?:sag|sagen sie|lass|lassen sie|gib|geben sie)\b[^\n]{0,60}\b(?:weitere|andere) "
        r"(?:änderungen|anpassungen|verbesserungen)",
        note=r"hinweis|anmerkung|bemerkung|notiz",
        changes=r"(?:die )?vorgenommenen? (?:änderungen|verbesserungen)|was ich (?:geändert|verbessert) habe|"
        r"erläuterung der änderungen",
        whose=r"die|der|deine|deiner|ihre|ihrer|meine|diese|dieser",
        onward=r"(?![\w-]| (?:des|der|vom|von|im|in|ins|auf|zum|zur|am|an|eines|einer)\b)",
        given=r"bitte schön|bitte sehr|hier bitte",
        improvements=r"(?:wichtigste |wesentliche )?(?:änderungen|verbesserungen)",
        edits=r"korrigier|verbesser|überarbeit|beheb|umschreib|"
        r"umformulier|schreib\w* [^\n]{0,40}\bum\b|formulier\w* [^\n]{0,40}\bum\b|repar",
    ),
    "French": Tongue(
        yes=r"bien sûr|certainement|d['’]accord|avec plaisir|volontiers|absolument|entendu|très bien|bien entendu|ok",
        here=r"voici|voilà|ci-dessous|c['’]est",
        changed=r"améliorée?s?|révisée?s?|réécrite?s?|remaniée?s?|retravaillée?s?|enrichie?s?|reformulée?s?|"
        r"mise à jour|"
        r"nouvelle|meilleure|plus [a-zéèêàûîôç-]+|optimisée?s?|développée?s?|étoffée?s?|corrigée?s?",
        answer=r"réponse",
        version=r"version",
        rewrite=r"réécriture|reformulation",
        done=r"améliorée?|révisée?|réécrite?|reformulée?",
        of=r"de (?:la|votre|ta|cette|ma) (?:(?:première) )?",
        did=r"j['’]ai (?:[a-zéèêàûîôç]+ ){0,2}?(?:ajouté|développé|enrichi|amélioré|reformulé|rendu|précisé|"
        r"complété|réécrit|"
        r"étoffé|inclus|approfondi|révisé|modifié|clarifié)|je l['’]ai",
        more=r"je l['’]ai (?:rendue?|développée?|enrichie?|complétée?|précisée?|améliorée?|étoffée?|reformulée?)",
        original=r"l['’]original|la version originale|la version initiale",
        gained=r"détails?|exemples?|contexte|explications?|précisions?|informations?|clarté",
        became=r"(?:a été|est maintenant|est désormais)",
        hope=r"j['’]espère",
        this=r"cette|la",
        offer=r"(?:dites-moi|dis-moi|n['’]hésitez)\b[^\n]{0,60}\bd['’]autres (?:modifications|changements|"
        r"améliorations)",
        note=r"note|remarque|nb|n\.b\.|précision",
        changes=r"(?:les )?(?:modifications|changements|améliorations) (?:apportée?s|effectuée?s)|"
        r"ce que j['’]ai changé|"
        r"explication des (?:modifications|changements)",
        whose=r"la|votre|ta|ma|cette",
        onward=r"(?![\w-]| (?:du|de|des|d['’]|au|aux|à|dans|sur)\b)",
        given=r"et voilà|la voici",
        improvements=r"(?:principales )?(?:améliorations|modifications)|(?:principaux )?changements",
        edits=r"corrig|réécri|amélior|révis|reformul|répar|relis",
    ),
    "Spanish": Tongue(
        yes=r"claro(?: que sí)?|por supuesto|desde luego|cómo no|con gusto|entendido|de acuerdo|vale|ciertamente|sí",
        here=r"aquí (?:está|tienes?|tiene|va|te dejo|le dejo)|a continuación|esta es|ésta es|he aquí|este es",
        changed=r"mejorad[ao]s?|revisad[ao]s?|reescrit[ao]s?|ampliad[ao]s?|enriquecid[ao]s?|reformulad[ao]s?|"
        r"actualizad[ao]s?|nuev[ao]|mejor|más [a-záéíóúñ-]+|optimizad[ao]s?|corregid[ao]s?|detallad[ao]s?",
        answer=r"respuesta|contestación",
        version=r"versión|redacción",
        rewrite=r"reescritura|reformulación",
        done=r"mejorad[ao]|revisad[ao]|reescrit[ao]|reformulad[ao]",
        of=r"de (?:la|tu|su|esta|mi) (?:(?:primera) )?",
        did=r"(?:la |lo )?he (?:[a-z]+ )?(?:añadido|ampliado|mejorado|reescrito|reformulado|hecho|incluido|"
        r"enriquecido|agregado|"
        r"detallado|revisado|modificado|desarrollado|aclarado)",
        more=r"(?:la|lo) he (?:hecho|ampliado|mejorado|completado|enriquecido|vuelto|reescrito)",
        original=r"(?:el|la versión) original|al original|del original",
        gained=r"detalles?|ejemplos?|contexto|explicaci(?:ón|ones)|información|claridad",
        became=r"(?:ha sido|fue|ahora es|está ahora)",
        hope=r"espero|ojalá",
        this=r"esta|la",
        offer=r"(?:avísame|avíseme|dime|dígame|hazme saber)\b[^\n]{0,60}\b(?:más|otr[ao]s) (?:cambios|ajustes|"
        r"mejoras)",
        note=r"nota|observación|comentario|aclaración",
        changes=r"(?:los |las )?(?:cambios|mejoras) (?:realizad[ao]s|introducid[ao]s|hech[ao]s)|qué he (?:cambiado|"
        r"mejorado)|"
        r"explicación de los cambios",
        whose=r"la|tu|su|mi|esta",
        onward=r"(?![\w-]| (?:del?|al?|en|sobre)\b)",
        given=r"aquí tiene[s]?|aquí está",
        improvements=r"(?:principales )?(?:mejoras|cambios)",
        edits=r"corrig|correg|reescrib|mejor|revis|reformul|arregl",
    ),
    "Italian": Tongue(
        yes=r"certo|certamente|naturalmente|volentieri|va bene|ovviamente|con piacere",
        here=r"ecco|di seguito|qui sotto|questa è",
        changed=r"migliorat[ao]|rivist[ao]|riscritt[ao]|ampliat[ao]|arricchit[ao]|riformulat[ao]|aggiornat[ao]|nuova|"
        r"migliore|più [a-zàèéìòù-]+",
        answer=r"risposta",
        version=r"versione",
        rewrite=r"riscrittura|riformulazione",
        done=r"migliorat[ao]|rivist[ao]|riscritt[ao]",
        of=r"(?:della|della tua|della sua|di questa) ",
        did=r"(?:l['’]ho|ho) (?:[a-z]+ )?(?:aggiunto|ampliat[ao]|migliorat[ao]|riscritt[ao]|res[ao]|arricchit[ao]|"
        r"incluso|"
        r"modificat[ao]|rivist[ao])",
        more=r"l['’]ho (?:resa|reso|ampliat[ao]|migliorat[ao]|arricchit[ao])",
        original=r"l['’]originale|la versione originale",
        gained=r"dettagli(?:o)?|esemp(?:i|io)|contesto|spiegazion[ei]|informazioni|chiarezza",
        became=r"(?:è stat[ao]|ora è)",
        hope=r"spero",
        this=r"questa|la",
        offer=r"fammi sapere\b[^\n]{0,60}\baltre modifiche",
        note=r"nota|osservazione",
        changes=r"(?:le |i )?(?:modifiche|cambiamenti|miglioramenti) (?:apportat[ei]|effettuat[ei])",
        whose=r"la|la tua|la sua|questa",
        onward=r"(?![\w-]| (?:del|della|dei|di|al|alla|nel|nella)\b)",
        given=r"eccola|ecco qui|ecco a te",
        improvements=r"(?:principali )?(?:miglioramenti|modifiche)",
        edits=r"corregg|riscriv|miglior|rived|riformul|sistem",
    ),
    "Portuguese": Tongue(
        yes=r"claro|certamente|com certeza|com prazer|com todo o prazer|entendido|está bem",
        here=r"aqui (?:está|vai|tem)|a seguir|segue|abaixo(?: está)?|esta é|eis",
        changed=r"melhorad[ao]|revisad[ao]|revist[ao]|reescrit[ao]|ampliad[ao]|enriquecid[ao]|reformulad[ao]|"
        r"atualizad[ao]|"
        r"nov[ao]|melhor|mais [a-záâãàéêíóôõúç-]+|aprimorad[ao]",
        answer=r"resposta",
        version=r"versão",
        rewrite=r"reescrita|reformulação",
        done=r"melhorad[ao]|revisad[ao]|reescrit[ao]",
        of=r"(?:da|da sua|desta|dessa) ",
        did=r"(?:eu )?(?:[ao] )?(?:adicionei|ampliei|melhorei|reescrevi|incluí|tornei|deixei|acrescentei|revisei|"
        r"modifiquei)(?:-[ao])?",
        more=r"(?:(?:deixei|tornei)-[ao]|[ao] (?:deixei|tornei)) mais",
        original=r"(?:o|ao|do) original|a versão original",
        gained=r"detalhes?|exemplos?|contexto|explicaç(?:ão|ões)|informações|clareza",
        became=r"(?:foi|agora é|está agora)",
        hope=r"espero",
        this=r"esta|a",
        offer=r"(?:avise-me|diga-me|me avise)\b[^\n]{0,60}\b(?:mais|outras) (?:alterações|mudanças|melhorias)",
        note=r"nota|observação|obs\.?",
        changes=r"(?:as )?(?:alterações|mudanças|melhorias) (?:feitas|realizadas)",
        whose=r"[aà]|a sua|esta|sua",
        onward=r"(?![\w-]| (?:d[oae]s?|ao|à|n[oa]s?)\b)",
        given=r"aqui está|aqui tem",
        improvements=r"(?:principais )?(?:melhorias|alterações|mudanças)",
        edits=r"corrij|corrig|reescrev|melhor|revis|reformul|consert",
    ),
}
