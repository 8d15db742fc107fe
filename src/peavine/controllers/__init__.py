"""One module a controller, named after its resource; one loop for all of them.

What belongs here watches objects and writes objects; it never touches a node, a disk or a socket of its own.
`CONTROLLERS` is upstream's list under upstream's names (`--controllers`): name -> "module:class", imported when run.
"""

CONTROLLERS = {
    "clusterrole-aggregation-controller": "clusterrole_aggregation:ClusterRoleAggregationController",
    "cronjob-controller": "cronjob:CronJobController",
    "daemonset-controller": "daemonset:DaemonSetController",
    "deployment-controller": "deployment:DeploymentController",
    "disruption-controller": "disruption:DisruptionController",
    "endpoints-controller": "endpoints:EndpointsController",
    "endpointslice-controller": "endpointslice:EndpointSliceController",
    "ephemeral-volume-controller": "ephemeral_volume:EphemeralVolumeController",
    "garbage-collector-controller": "garbage_collector:GarbageCollector",
    "job-controller": "job:JobController",
    "namespace-controller": "namespace:NamespaceController",
    "node-ipam-controller": "node_ipam:NodeIPAMController",
    "node-lifecycle-controller": "node_lifecycle:NodeLifecycleController",
    "persistentvolume-binder-controller": "persistent_volume.controller:PersistentVolumeBinder",
    "persistentvolume-protection-controller": "pv_protection:PVProtectionController",
    "persistentvolumeclaim-protection-controller": "pvc_protection:PVCProtectionController",
    "pod-garbage-collector-controller": "pod_gc:PodGCController",
    "replicaset-controller": "replicaset:ReplicaSetController",
    "replicationcontroller-controller": "replicaset:ReplicationControllerController",
    "resourcequota-controller": "resource_quota:ResourceQuotaController",
    "root-ca-certificate-publisher-controller": "root_ca_publisher:RootCAPublisher",
    "serviceaccount-controller": "serviceaccount:ServiceAccountController",
    "statefulset-controller": "statefulset:StatefulSetController",
    "taint-eviction-controller": "taint_eviction:TaintEvictionController",
    "ttl-after-finished-controller": "ttl_after_finished:TTLAfterFinishedController",
    "ttl-controller": "ttl:TTLController",
}
