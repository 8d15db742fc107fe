"""The plugins, one module a concept, under upstream's names. `DEFAULT_PLUGINS` is their order: the first filter that
refuses a node gives the reason."""

from peavine.scheduler.plugins.base import Check, Plugin, Rating, Rejected
from peavine.scheduler.plugins.dynamic_resources import DynamicResources
from peavine.scheduler.plugins.image_locality import ImageLocality
from peavine.scheduler.plugins.inter_pod_affinity import InterPodAffinity
from peavine.scheduler.plugins.node_affinity import NodeAffinity
from peavine.scheduler.plugins.node_declared_features import NodeDeclaredFeatures
from peavine.scheduler.plugins.node_name import NodeName
from peavine.scheduler.plugins.node_ports import NodePorts
from peavine.scheduler.plugins.node_resources import NodeResourcesBalancedAllocation, NodeResourcesFit
from peavine.scheduler.plugins.node_unschedulable import NodeUnschedulable
from peavine.scheduler.plugins.node_volume_limits import NodeVolumeLimits
from peavine.scheduler.plugins.pod_topology_spread import PodTopologySpread
from peavine.scheduler.plugins.taint_toleration import TaintToleration
from peavine.scheduler.plugins.volume_binding import VolumeBinding
from peavine.scheduler.plugins.volume_restrictions import VolumeRestrictions
from peavine.scheduler.plugins.volume_zone import VolumeZone

# (plugin, weight of its score), in upstream's order.
DEFAULT_PLUGINS: tuple[tuple[type[Plugin], int], ...] = (
    (NodeUnschedulable, 0),
    (NodeName, 0),
    (TaintToleration, 3),
    (NodeAffinity, 2),
    (NodePorts, 0),
    (NodeResourcesFit, 1),
    (VolumeRestrictions, 0),
    (NodeVolumeLimits, 0),
    (VolumeBinding, 0),
    (VolumeZone, 0),
    (PodTopologySpread, 2),
    (InterPodAffinity, 2),
    (DynamicResources, 0),
    (NodeResourcesBalancedAllocation, 1),
    (ImageLocality, 1),
    (NodeDeclaredFeatures, 0),
)

__all__ = ["DEFAULT_PLUGINS", "Check", "Plugin", "Rating", "Rejected"]
