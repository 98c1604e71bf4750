from .judge import Judged as Judged
from .judge import Judgement as Judgement
from .judge import judge as judge
from .page import JUDGEMENT as JUDGEMENT
from .page import save_judgement as save_judgement
