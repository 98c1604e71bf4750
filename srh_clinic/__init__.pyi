from .bundles import Bundle as Bundle
from .bundles import load_bundle as load_bundle
from .case.pipeline import RestoreThenClassify as RestoreThenClassify
from .case.record import CaseRecord as CaseRecord
from .case.record import read_result as read_result
from .case.result import CaseResult as CaseResult
from .errors import InputError as InputError
from .integration import read_slide as read_slide
from .integration import read_z_stack as read_z_stack
from .integration import write_wsi as write_wsi
from .restorers import create_restorer as create_restorer
from .slide import ArraySlide as ArraySlide
from .slide import Identity as Identity
from .slide import Reading as Reading
from .slide import Slide as Slide

__version__: str
