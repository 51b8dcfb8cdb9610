"""Words that a question has whatever it asks: "where is the", "wie wird die". They are searched, but not marked."""

from collections.abc import Sequence
from functools import cache

# Articles, pronouns, prepositions, auxiliaries, question words, what is left of contractions; no verb or noun that
# could be looked for. Of scripts without spaces single characters, since these are their words.
_TABLE = {
    "eng": (
        "a an the this that these those there here it its i me my we us our you your he him his she her they them "
        "their who whom whose which what when where why how is are was were am be been being do does did done "
        "doing have has had having will would shall should can could may might must of in on at to from for with "
        "without by as into onto about between through over under up down out off and or but nor not no if then "
        "than so too very just also only some any all each every both either neither such s t d m ll re ve don "
        "doesn isn aren"
    ),
    "deu": (
        "der die das den dem des ein eine einen einem einer eines kein keine keinen dies diese dieser dieses "
        "diesem ich mich mir du dich dir er ihn ihm sie es wir uns ihr ihnen sein seine seinen mein meine dein "
        "deine unser wer wen wem wessen was wann wo woher wohin warum wieso wie welche welcher welches man sich "
        "ist sind war waren bin bist wird werden wurde wurden worden hat haben habe hatte kann können konnte muss "
        "müssen soll sollen darf in im an am auf aus bei beim mit nach von vom vor zu zum zur für über unter "
        "durch ohne um als und oder aber nicht wenn dann dass ob so auch nur noch schon sehr hier da dort alle "
        "alles etwas"
    ),
    "fra": (
        "le la les l un une des du de d au aux ce cet cette ces c ça cela il elle ils elles on je j me m moi tu "
        "te toi nous vous lui leur leurs se s son sa ses mon ma mes ton ta tes notre votre qui que qu quoi dont "
        "où quand comment pourquoi combien quel quelle quels quelles est sont était étaient être été a ont avait "
        "ai as avoir fait faire peut peuvent doit à en dans sur sous par pour avec sans entre vers chez et ou "
        "mais ni ne n pas plus si comme aussi très tout tous toute toutes y"
    ),
    "spa": (
        "el la los las lo un una unos unas al del de este esta esto estos estas ese esa eso esos esas yo me mi "
        "mis tú tu te él ella ellos ellas nos nosotros se su sus le les quién quien que qué cuál cual cuáles "
        "cuándo cuando dónde donde cómo como por para porque cuánto es son era eran ser sido está están estar ha "
        "han hay haber puede pueden debe hace hacer en con sin sobre entre desde hasta a y e o u pero ni no si "
        "más muy también ya"
    ),
    "ita": (
        "il lo la i gli le l un uno una del dello della dei degli delle di al allo alla ai agli alle a dal dalla "
        "da nel nella nei in sul sulla su con per tra fra questo questa questi queste quello quella io mi me tu "
        "ti te lui lei noi ci voi vi loro si suo sua suoi chi che cosa quale quali quando dove come perché quanto "
        "è sono era essere stato viene ha hanno avere può possono deve e ed o ma non se più anche molto"
    ),
    "por": (
        "o a os as um uma uns umas do da dos das de no na nos nas em ao à aos às por pelo pela para com sem sobre "
        "entre este esta isto esse essa isso eu me mim tu te ele ela eles elas nós você vocês se seu sua seus "
        "suas lhe quem que qual quais quando onde como porque quanto é são era eram ser sido está estão foi há "
        "tem têm ter pode podem deve faz fazer e ou mas nem não mais muito também já"
    ),
    "nld": (
        "de het een t dit dat deze die ik me mij mijn je jij jou jouw hij hem zijn zij ze haar wij we ons onze "
        "jullie hun wie wat welk welke wanneer waar waarom hoe er is was waren ben bent wordt worden werd heeft "
        "hebben had kan kunnen moet moeten zal van in op aan uit bij met naar voor door over onder om te tot als "
        "en of maar niet geen dan ook nog zo"
    ),
    "swe": (
        "en ett den det de denna detta dessa jag mig min du dig din han hon vi oss vår ni er sig sin sitt sina "
        "man vem vad vilken vilket vilka när var vart varför hur är varit bli blir har hade kan kunde ska måste i "
        "på av från till för med utan om under över mellan och eller men inte ingen så som att då också"
    ),
    "dan": (
        "en et den det de denne dette disse jeg mig min du dig din han hun vi os vores i jer sig sin sit sine man "
        "hvem hvad hvilken hvilket hvilke hvornår hvor hvorfor hvordan er var været bliver blive har havde kan "
        "kunne skal må på af fra til for med uden om under over mellem og eller men ikke ingen så som at da også"
    ),
    "nob": (
        "en ei et den det de denne dette disse jeg meg min du deg din han hun vi oss vår dere seg sin sitt sine "
        "man hvem hva hvilken hvilket hvilke når hvor hvorfor hvordan er var vært blir bli har hadde kan kunne "
        "skal må i på av fra til for med uten om under over mellom og eller men ikke ingen så som at da også"
    ),
    "pol": (
        "ten ta to te ci tego tej tym ja mnie mi mój ty ciebie on ona ono oni one go jej ich im my nas nam się "
        "swój kto co który która które jaki jaka jakie kiedy gdzie dlaczego jak czy ile jest są był była było "
        "były być zostaje może mogą musi ma mają w we na z ze do od o u po przy przez dla bez nad pod między i a "
        "oraz lub albo ale nie tak też już że żeby jeśli"
    ),
    "ces": (
        "ten ta to ti ty tohoto tím já mě mi můj on ona ono oni jeho její jejich my nás se si svůj kdo co který "
        "která které jaký jaká jaké kdy kde proč jak zda kolik je jsou byl byla bylo byly být může mohou musí má "
        "mají v ve na z ze do od o u po při pro bez nad pod mezi a i nebo ale ne tak také už že aby pokud"
    ),
    "rus": (
        "этот эта это эти тот та то те я меня мне мой ты тебя твой он его ему она её ее они их им мы нас нам вы "
        "вас себя свой кто что чего какой какая какое какие который которая которые когда где куда откуда почему "
        "зачем как ли сколько есть был была было были быть может могут в во на с со к ко из от до о об у по при "
        "для без над под между через за и а или но не ни так тоже уже же бы чтобы если"
    ),
    "ukr": (
        "цей ця це ці той та те ті я мене мені мій ти він його йому вона її вони їх ми нас ви вас себе свій хто "
        "що чого який яка яке які коли де куди звідки чому як чи скільки є був була було були бути може можуть в "
        "у на з із до від о об по при для без над під між через за і й а або але не ні так також вже же б щоб "
        "якщо"
    ),
    "tur": (
        "bir bu şu o ben beni bana benim sen seni sana senin onu ona onun biz bizi bize siz onlar kim ne neyi "
        "hangi zaman nerede nereye nereden neden niçin niye nasıl kaç mı mi mu mü dır dir var yok olan olarak "
        "olur ve veya ya da de ile için gibi kadar göre ama fakat değil çok daha en her"
    ),
    "ell": (
        "ο η το οι τα του της των τον την τους τις ένας μια μία ένα αυτός αυτή αυτό εγώ με μου εσύ σε σου εμείς "
        "μας εσείς σας ποιος ποια ποιο τι πότε πού πώς γιατί πόσο είναι ήταν έχει έχουν μπορεί πρέπει να θα στο "
        "στη στην στον στα από για χωρίς και ή αλλά δεν μη αν που ως"
    ),
    "ara": (
        "في من إلى الى على عن مع بين هذا هذه ذلك تلك هؤلاء أنا نحن أنت هو هي هم الذي التي الذين ما ماذا متى أين "
        "اين كيف لماذا هل كم أي اي كان كانت يكون تكون و أو او ثم لكن لا لم لن ليس إن ان أن قد كل"
    ),
    "heb": (
        "של את על אל מן עם בין זה זו זאת אלה אני אתה הוא היא הם אנחנו מי מה מתי איפה היכן איך למה מדוע האם כמה "
        "היה יש אין ו או אבל לא אם כי כל"
    ),
    "hin": (
        "का के की को में से पर ने तक और या लेकिन यह ये वह वे मैं हम तुम आप कौन क्या कब कहाँ कहां क्यों कैसे कितना "
        "कितने है हैं था थे थी हो होता होती होते कर करता करते करें नहीं तो भी ही एक इस उस जो"
    ),
    "ind": (
        "yang di ke dari pada untuk dengan tanpa dan atau tetapi ini itu saya aku kamu anda dia kami kita mereka "
        "siapa apa kapan mana bagaimana mengapa kenapa berapa adalah ada akan sudah tidak bukan jika oleh dalam "
        "juga"
    ),
    "vie": (
        "của là và hay hoặc nhưng này đó tôi bạn anh chị nó chúng ta ai gì khi nào đâu sao thế có không được bị ở "
        "trong trên dưới từ đến cho với các những một"
    ),
    "zho": (
        "的 了 是 在 和 与 或 也 都 不 没 吗 呢 吧 啊 这 那 哪 我 你 他 她 它 们 怎 么 什 样 谁 为 被 把 从 到 对 就 而"
    ),
    "jpn": "の は が を に へ と で も か や ら ね よ す ま し た て い な る れ こ そ",
    "kor": "은 는 이 가 을 를 에 의 도 로 과 와 요 다 까 니 습",
}


@cache
def _lists() -> list[frozenset[str]]:
    return [frozenset(listed.casefold().split()) for listed in _TABLE.values()]


def telling(said: Sequence[str]) -> set[str]:
    """Those of a question's `words` that tell what it asks for: without the stop words of the language it is in.

    The language is the one that knows the most of them as stop words, English where two know as many. Where nothing
    else is left, all of them tell.
    """
    stopped = max(_lists(), key=lambda listed: sum(word in listed for word in said))
    return set(said) - stopped or set(said)
